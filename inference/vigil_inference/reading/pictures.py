"""Which pictures an export brings."""

from enum import StrEnum


class Pictures(StrEnum):
    """Which pictures go with the manifest."""

    NONE = "none"
    DICOM = "dicom"
    """The original's pixels in a DICOM file under new names."""
    PNG = "png"
    """The preview: 8 bits, as it was analysed."""
