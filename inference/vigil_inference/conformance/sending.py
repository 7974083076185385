"""The application entity that sends results and asks for proof."""

from pynetdicom import DEFAULT_TRANSFER_SYNTAXES
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from vigil_inference.conformance.markdown import named, status, table, template
from vigil_inference.delivery.dicom_peer import (
    FIND_KEYS,
    RESULT_CLASSES,
    RESULT_SYNTAXES,
)
from vigil_inference.delivery.peers import Verdict, judge_dimse_status
from vigil_inference.settings import Settings

_TRIED = (
    0x0000,
    0xB000,
    0xB006,
    0xB007,
    0x0110,
    0x0111,
    0x0122,
    0x0124,
    0x0213,
    0xA700,
    0xA900,
    0xC000,
)
_MEANINGS = {
    Verdict.ACCEPTED: "taken: the delivery is `SENT`, proof is asked for",
    Verdict.LATER: "tried again later",
    Verdict.REFUSED: "the delivery has `FAILED`, until a person retries it",
}


def describe_sending() -> str:
    """Return the section on the sending application entity."""
    find = StudyRootQueryRetrieveInformationModelFind
    syntaxes = ", ".join(named(uid)[0] for uid in RESULT_SYNTAXES)
    uncompressed = ", ".join(named(uid)[0] for uid in DEFAULT_TRANSFER_SYNTAXES)
    contexts = table(
        ("SOP class", "UID", "Transfer syntaxes", "Role", "Proposed"),
        [
            *(
                (*named(uid), f"{syntaxes} (one context each)", "SCU", "always")
                for uid in RESULT_CLASSES
            ),
            (
                *named(find),
                uncompressed,
                "SCU",
                "unless `proof` is `none`",
            ),
            (
                *named(StorageCommitmentPushModel),
                uncompressed,
                "SCU",
                "where `proof` is `storage-commitment`",
            ),
        ],
    )
    answers = table(
        ("Status", "Verdict"),
        [(status(code), _MEANINGS[judge_dimse_status(code).verdict]) for code in _TRIED],
    )
    reports = table(
        ("SOP class", "UID", "Role of ours"),
        [
            (*named(Verification), "SCP"),
            (*named(StorageCommitmentPushModel), "SCU, by role selection SCP too"),
        ],
    )
    fields = Settings.model_fields
    return template("sending").format(
        contexts=contexts,
        answers=answers,
        first=f"{fields['delivery_retry_seconds'].default:g}",
        longest=f"{fields['delivery_retry_most_seconds'].default:g}",
        give_up=f"{fields['delivery_give_up_seconds'].default:g}",
        keys=", ".join(FIND_KEYS),
        reports=reports,
    )
