"""Who observed: this installation's device (DICOM PS3.16 TID 1002 and 1004)."""

from highdicom.sr import (
    CodedConcept,
    DeviceObserverIdentifyingAttributes,
    ObservationContext,
    ObserverContext,
)

from vigil.gate import OWN_MANUFACTURER
from vigil_inference.results.document import MODEL_NAME
from vigil_inference.results.identity import device_uid
from vigil_inference.results.study import StudyResult

_DEVICE = CodedConcept("121007", "DCM", "Device")


def device_observer(study: StudyResult) -> ObservationContext:
    """Return the device that observed, as an observation context."""
    return ObservationContext(observer_device_context=device_observer_context(study))


def device_observer_context(study: StudyResult) -> ObserverContext:
    """Return the device that observed."""
    return ObserverContext(
        observer_type=_DEVICE,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=device_uid(study),
            name=f"Vigil {study.software_version}",
            manufacturer_name=OWN_MANUFACTURER,
            model_name=MODEL_NAME,
            serial_number=study.device_serial_number,
        ),
    )
