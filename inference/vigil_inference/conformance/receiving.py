"""The application entity that listens: associations, SOP classes, syntaxes, statuses."""

from pydicom.uid import UID
from pynetdicom import AllStoragePresentationContexts

from vigil.errors import StorageError
from vigil_inference import storage_commitment as commitment
from vigil_inference.conformance.markdown import named, status, table, template
from vigil_inference.dicom_listener import (
    COERCION,
    CONGESTED,
    LIMIT_EXCEEDED,
    SUCCESS,
    TRANSFER_SYNTAXES,
    UNEXPECTED,
    transfer_syntaxes_of,
)
from vigil_inference.headers import ObjectUnreadable
from vigil_inference.intake import IdentityConflict, ObjectMismatch
from vigil_inference.settings import Settings


def describe_receiving() -> str:
    """Return the section on the receiving application entity."""
    return template("receiving").format(
        policies=_policies(),
        rejections=_rejections(),
        syntaxes=_syntaxes(),
        classes=_classes(),
        statuses=_statuses(),
        commitment_syntaxes=", ".join(UID(uid).name for uid in transfer_syntaxes_of(_NO_IMAGE)),
        tries=len(commitment.RETRY_SECONDS) + 1,
        actions=_codes(commitment.ACTION_STATUSES),
        reasons=_codes(commitment.FAILURE_REASONS),
    )


# Any SOP class without pixels has the syntaxes of data sets that are not compressed.
_NO_IMAGE = UID("1.2.840.10008.5.1.4.1.1.88.11")


def _default(name: str) -> object:
    return Settings.model_fields[name].default


def _policies() -> str:
    rows = [
        ("Application context", "`1.2.840.10008.3.1.1.1`", ""),
        ("Called title", "any, or only its own", "`dicom_require_called_ae_title`"),
        ("Calling titles", "any, or those named", "`dicom_allowed_calling_ae_titles`"),
        ("Addresses", "any, or those named", "`dicom_allowed_addresses`"),
        ("Port", _default("dicom_port"), "`dicom_port`"),
        ("Port with TLS", _default("dicom_tls_port"), "`dicom_tls_port`"),
        ("Associations at once", _default("dicom_max_associations"), "`dicom_max_associations`"),
        (
            "Largest PDU received",
            f"{_default('dicom_max_pdu_bytes')} bytes",
            "`dicom_max_pdu_bytes`",
        ),
        (
            "Timeouts (ACSE, DIMSE, network)",
            f"{_default('dicom_timeout_seconds')} s",
            "`dicom_timeout_seconds`",
        ),
        (
            "Time for one object",
            f"{_default('dicom_object_timeout_seconds')} s",
            "`dicom_object_timeout_seconds`",
        ),
    ]
    return table(("Policy", "Default", "Setting"), rows)


def _rejections() -> str:
    rows = [
        (1, 1, 7, "the called title is not ours, and must be"),
        (1, 1, 3, "the calling title is none of those allowed"),
        (*CONGESTED, "it would store, and the disk has less than half of its reserve left"),
        (*LIMIT_EXCEEDED, "as many associations as allowed are open"),
    ]
    return table(("Result", "Source", "Reason", "When"), rows)


def _syntaxes() -> str:
    image = set(transfer_syntaxes_of(UID("1.2.840.10008.5.1.4.1.1.1")))
    plain = set(transfer_syntaxes_of(_NO_IMAGE))
    rows = [
        (
            *named(uid),
            *("yes" if uid in group else "no" for group in (image, plain)),
        )
        for uid in TRANSFER_SYNTAXES
    ]
    return table(("Transfer syntax", "UID", "For images", "For others"), rows)


def _classes() -> str:
    uids = sorted(
        {str(context.abstract_syntax) for context in AllStoragePresentationContexts},
        key=lambda uid: [int(part) for part in uid.split(".")],
    )
    rows = []
    for uid in uids:
        name = UID(uid).name
        kind = "video" if "Video" in name else "images" if "Image" in name else "others"
        rows.append((*named(uid), kind))
    return table(("SOP class", "UID", "Transfer syntaxes for"), rows)


def _statuses() -> str:
    rows = [
        (
            status(SUCCESS),
            "Success",
            "stored durably and recorded, or held already",
        ),
        (
            status(COERCION),
            "Warning",
            "other bytes are held under this SOP instance UID in this study; the first are kept, "
            "and an alarm is raised",
        ),
        (
            status(StorageError.dimse_status),
            "Failure, out of resources",
            "disk or database did not take it; nothing is kept, send again later",
        ),
        (
            status(ObjectMismatch.dimse_status),
            "Failure, data set does not match SOP class",
            "the data set is not the object that the request named",
        ),
        (
            status(ObjectUnreadable.dimse_status),
            "Failure, cannot understand",
            "no DICOM object, one without its identity, or "
            f"(`{IdentityConflict.code}`) one whose SOP instance UID another study holds",
        ),
        (status(UNEXPECTED), "Failure, cannot understand", "a fault in Vigil; nothing is kept"),
    ]
    return table(("Status", "Meaning", "When"), rows)


def _codes(codes: dict[int, str]) -> str:
    return "\n".join(f"| {status(code)} | {when} |" for code, when in codes.items())
