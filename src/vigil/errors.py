"""Every error that Vigil raises on purpose, each one a decision that somebody can take.

::

    VigilError
    ├── ImageRefused            a picture that is not analysed, with its stable RefusalCode
    ├── BundleError             a model bundle that must not be served
    ├── ManifestError           a data set's manifest that must not be trained or judged on
    ├── ConfigurationError      a run or a deployment that is described wrongly
    └── StorageError            bytes that could not be made durable: the sender must try again

Messages say what happened and what was expected, and never hold patient data.
"""

from enum import StrEnum
from typing import ClassVar


class RefusalCode(StrEnum):
    """Why a picture was not analysed. The codes are stable: clients may depend on them."""

    FILE_UNREADABLE = "FILE_UNREADABLE"
    NOT_RADIOGRAPH = "NOT_RADIOGRAPH"
    NO_PIXELS = "NO_PIXELS"
    FOR_PROCESSING = "FOR_PROCESSING"
    DERIVED = "DERIVED"
    MULTI_FRAME = "MULTI_FRAME"
    COLOUR = "COLOUR"
    TOO_SMALL = "TOO_SMALL"
    TOO_LARGE = "TOO_LARGE"
    TRANSFER_SYNTAX_UNSUPPORTED = "TRANSFER_SYNTAX_UNSUPPORTED"
    PIXELS_CORRUPT = "PIXELS_CORRUPT"
    NO_CONTRAST = "NO_CONTRAST"
    NOT_CHEST = "NOT_CHEST"
    NOT_FRONTAL = "NOT_FRONTAL"
    PAEDIATRIC = "PAEDIATRIC"
    ROTATED = "ROTATED"
    INVERTED_UNCERTAIN = "INVERTED_UNCERTAIN"
    UNFAMILIAR = "UNFAMILIAR"
    MODEL_UNAVAILABLE = "MODEL_UNAVAILABLE"
    INTERNAL_ERROR = "INTERNAL_ERROR"


class VigilError(Exception):
    """The root of all errors that Vigil raises on purpose.

    Attributes
    ----------
    code
        A stable word for programs.
    http_status
        The HTTP status that answers a request which met this error.
    dimse_status
        The DIMSE status that answers a C-STORE which met this error (DICOM PS3.4 table B.2-1).
    """

    code: str = "VIGIL_ERROR"
    http_status: ClassVar[int] = 500
    dimse_status: ClassVar[int] = 0xC000


class ImageRefused(VigilError):
    """A picture is not analysed; it stays in the worklist with this code and sentence."""

    http_status = 422
    dimse_status = 0xC000

    def __init__(self, code: RefusalCode, reason: str) -> None:
        super().__init__(reason)
        self.code: RefusalCode = code
        self.reason = reason


class BundleError(VigilError):
    """A model bundle is incomplete, altered, or made for another version of the software."""

    code = "BUNDLE_INVALID"
    http_status = 503
    dimse_status = 0xA700


class ManifestError(VigilError):
    """A manifest is wrong; the message names the row."""

    code = "MANIFEST_INVALID"
    http_status = 422


class ConfigurationError(VigilError):
    """A run's or a deployment's configuration is wrong; the message names the field."""

    code = "CONFIGURATION_INVALID"


class StorageError(VigilError):
    """Received bytes could not be made durable, so they are not acknowledged."""

    code = "STORAGE_UNAVAILABLE"
    http_status = 507
    dimse_status = 0xA700
