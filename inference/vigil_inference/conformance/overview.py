"""The overview: what the service is, its services at a glance, and its implementation model."""

from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from vigil import RESEARCH_USE
from vigil_inference.conformance.markdown import named, table, template
from vigil_inference.delivery.dicom_peer import RESULT_CLASSES
from vigil_inference.results.document import IMPLEMENTATION_CLASS_UID, MODEL_NAME


def describe_overview() -> str:
    """Return title, overview and implementation model."""
    from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID

    find = StudyRootQueryRetrieveInformationModelFind
    services = table(
        ("Network service", "SOP class", "UID", "As user (SCU)", "As provider (SCP)"),
        [
            ("Verification", *named(Verification), "no", "yes"),
            ("Storage", "all in [section 3.4](#34-storage-sop-classes)", "", "no", "yes"),
            *(("Storage", *named(uid), "yes", "yes") for uid in RESULT_CLASSES),
            ("Storage commitment", *named(StorageCommitmentPushModel), "yes", "yes"),
            ("Query", *named(find), "yes", "no"),
        ],
    )
    web = table(
        ("Web service", "As user agent", "As origin server"),
        [
            ("Studies: Store (STOW-RS)", "yes", "yes"),
            ("Studies: Search (QIDO-RS)", "yes", "yes"),
            ("Studies: Retrieve (WADO-RS)", "no", "yes"),
        ],
    )
    return template("overview").format(
        model=MODEL_NAME,
        research_use=RESEARCH_USE,
        services=services,
        web=web,
        implementation=IMPLEMENTATION_CLASS_UID,
        network=PYNETDICOM_IMPLEMENTATION_UID,
    )
