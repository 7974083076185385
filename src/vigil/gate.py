"""Is it an upright frontal chest radiograph that the bundle may judge?

Three looks, from cheap to dear: at the header, at the pixels' statistics, and at what the network
says of the picture itself, with how far that lies from the films it learnt from. Tags alone are
not enough (BodyPartExamined is wrong in about 15 % of images: Güld 2002, doi 10.1117/12.467017)
and pictures alone are not either; where they contradict each other the picture is refused and
waits for a person, with both said.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import uid

from vigil.bundle import UnfamiliaritySpec
from vigil.errors import ImageRefused, RefusalCode
from vigil.preprocess import percentile_of
from vigil.radiograph import ImageDescription, View

SMALLEST_SIDE = 128
"""Pixels of the shorter side below which nothing can be read."""

OWN_MANUFACTURER = "Vigil"

UNFAMILIAR_NOTE = (
    "the picture is unlike the films the model learnt from: its figures may not hold for it"
)
MIRRORED_NOTE = (
    "the heart seems to lie on the right: a mirrored film or situs inversus; check the side marker"
)
ANTEROPOSTERIOR_NOTE = (
    "no view is given and the picture looks like an AP film, on which the heart looks larger"
)

_PROJECTION_CLASSES = {
    uid.ComputedRadiographyImageStorage,
    uid.DigitalXRayImageStorageForPresentation,
    uid.DigitalXRayImageStorageForProcessing,
}
_SECONDARY_CAPTURE_CLASSES = {
    uid.SecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
}
# RG is film; DR is not a defined term, but modalities write it.
_RADIOGRAPHY = {"CR", "DX", "DR", "RG"}
_UNSPECIFIC = {"", "OT", "SC"}

_CHEST = re.compile(
    r"\b(chest|thorax|thoracic|lungs?|cxr|rib ?cage|torax|tórax|poumons?|phổi|ngực|nguc|phoi)\b",
    re.IGNORECASE,
)
_OTHER_PART = re.compile(
    r"\b(abdomen|ankle|arm|breast|calcaneus|clavicle|elbow|extremity|femur|finger|foot|forearm|"
    r"hand|head|hip|humerus|jaw|knee|leg|lower limb|mandible|neck|patella|pelvis|sacrum|scapula|"
    r"shoulder|skull|spine|cspine|lspine|tspine|sspine|tibia|toe|upper limb|wrist|whole ?body)\b",
    re.IGNORECASE,
)
_LATERAL = re.compile(r"\b(lateral|lat|latéral|profil|nghiêng)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Appearance:
    """What the network's attributes say of a picture, against the bundle's thresholds.

    An attribute that the bundle does not have counts as "nothing against the picture".
    """

    frontal_chest: bool = True
    inverted: bool = False
    rotated: bool = False
    mirrored: bool = False
    anteroposterior: bool = False
    child: bool | None = None


def check_header(description: ImageDescription, *, for_processing: bool = False) -> None:
    """Refuse what the header shows to be no frontal chest radiograph.

    Parameters
    ----------
    description
        What the header says.
    for_processing
        Whether DX for processing is let in: raw detector values, which no window describes.

    Raises
    ------
    ImageRefused
        ``NOT_RADIOGRAPH``, ``FOR_PROCESSING``, ``DERIVED``, ``NOT_CHEST``, ``NOT_FRONTAL``,
        ``NO_PIXELS`` or ``TOO_SMALL``.
    """
    if description.file_format == "DICOM":
        _check_object(description, for_processing=for_processing)
        _check_body_part(description)
        _check_view(description)
    if description.rows < 1 or description.columns < 1:
        raise ImageRefused(RefusalCode.NO_PIXELS, "the object holds no pixels")
    if min(description.rows, description.columns) < SMALLEST_SIDE:
        reason = (
            f"the picture is {description.columns} × {description.rows} pixels, "
            f"expected at least {SMALLEST_SIDE} on each side"
        )
        raise ImageRefused(RefusalCode.TOO_SMALL, reason)


def _check_object(description: ImageDescription, *, for_processing: bool) -> None:
    modality = description.modality.upper()
    is_projection = description.sop_class_uid in _PROJECTION_CLASSES
    is_capture = description.sop_class_uid in _SECONDARY_CAPTURE_CLASSES
    if not (is_projection or is_capture):
        name = uid.UID(description.sop_class_uid).name
        reason = f"the object is {name}, expected CR, DX or Secondary Capture Image Storage"
        raise ImageRefused(RefusalCode.NOT_RADIOGRAPH, reason)
    if description.manufacturer == OWN_MANUFACTURER:
        raise ImageRefused(RefusalCode.DERIVED, "the picture is itself a result of this software")
    is_raw = description.sop_class_uid == uid.DigitalXRayImageStorageForProcessing
    if is_raw and not for_processing:
        reason = "the picture is for processing, expected one for presentation"
        raise ImageRefused(RefusalCode.FOR_PROCESSING, reason)
    if modality not in _RADIOGRAPHY | _UNSPECIFIC:
        reason = f"the modality is {modality}, expected CR or DX"
        raise ImageRefused(RefusalCode.NOT_RADIOGRAPH, reason)
    if is_capture and modality in _UNSPECIFIC and not _says_chest(description):
        reason = (
            f"the object is a secondary capture of modality {modality or 'unknown'} "
            "and nothing in its header says chest"
        )
        raise ImageRefused(RefusalCode.NOT_RADIOGRAPH, reason)


def _says_chest(description: ImageDescription) -> bool:
    return any(
        _CHEST.search(_words(text))
        for text in (description.body_part_examined, *description.descriptions)
    )


def _check_body_part(description: ImageDescription) -> None:
    """Refuse another body part, if the body part or all the texts together say so."""
    part = _words(description.body_part_examined)
    texts = " ".join(_words(text) for text in description.descriptions)
    named_other = _OTHER_PART.search(part) or (not part and _OTHER_PART.search(texts))
    if named_other and not _CHEST.search(part) and not _CHEST.search(texts):
        reason = f"the header says {named_other.group(0).lower()}, expected chest"
        raise ImageRefused(RefusalCode.NOT_CHEST, reason)


def _check_view(description: ImageDescription) -> None:
    if description.view is View.LATERAL:
        reason = "the header says lateral, expected PA or AP"
        raise ImageRefused(RefusalCode.NOT_FRONTAL, reason)
    if description.view is View.UNKNOWN:
        said = next((t for t in description.descriptions if _LATERAL.search(_words(t))), None)
        both = said and re.search(r"\b(pa|ap|frontal|2 ?views?)\b", _words(said), re.IGNORECASE)
        if said and not both:
            reason = "no view is given and the description says lateral, expected PA or AP"
            raise ImageRefused(RefusalCode.NOT_FRONTAL, reason)


def _words(text: str) -> str:
    return re.sub(r"[_\-^/.,;:()]+", " ", text)


def check_pixels(pixels: NDArray[np.uint16], shape: tuple[int, int] | None = None) -> None:
    """Refuse a picture that shows nothing.

    Parameters
    ----------
    pixels
        (rows, columns) uint16 display values.
    shape
        Rows and columns of the whole picture, if ``pixels`` are a reduced one's.

    Raises
    ------
    ImageRefused
        ``NO_CONTRAST`` if it is (nearly) one grey, or black and white only; ``TOO_SMALL``.
    """
    rows, columns = shape or pixels.shape
    if min(rows, columns) < SMALLEST_SIDE:
        reason = f"the picture is {columns} × {rows} pixels, too small to read"
        raise ImageRefused(RefusalCode.TOO_SMALL, reason)
    step = max(1, min(pixels.shape) // 256)
    sample = np.sort(pixels[::step, ::step], axis=None, kind="stable")
    low, high = percentile_of(sample, 1), percentile_of(sample, 99)
    if high - low < 0.02 * 65535:
        raise ImageRefused(RefusalCode.NO_CONTRAST, "the picture is of (nearly) one grey")
    margin = 0.1 * (high - low)
    first = np.searchsorted(sample, low + margin, side="right")
    last = np.searchsorted(sample, high - margin, side="left")
    if last - first < 0.1 * sample.size:
        reason = "the picture is black and white without greys between, expected a radiograph"
        raise ImageRefused(RefusalCode.NO_CONTRAST, reason)


def appearance(attributes: Mapping[str, float], thresholds: Mapping[str, float]) -> Appearance:
    """Compare the network's attributes with the bundle's thresholds."""
    passes = {
        name: attributes[name] >= threshold
        for name, threshold in thresholds.items()
        if name in attributes
    }
    return Appearance(
        frontal_chest=passes.get("frontal_chest", True),
        inverted=passes.get("inverted", False),
        rotated=passes.get("rotated", False),
        mirrored=passes.get("mirrored", False),
        anteroposterior=passes.get("anteroposterior", False),
        child=passes.get("child"),
    )


def check_familiar(unfamiliarity: float | None, spec: UnfamiliaritySpec | None) -> str | None:
    """Refuse a picture that is too unlike the training films, or return a note of its unlikeness.

    Parameters
    ----------
    unfamiliarity
        What the graph says, see :class:`vigil.classifier.Prediction`.
    spec
        The bundle's limits; without them nothing is said.

    Raises
    ------
    ImageRefused
        ``UNFAMILIAR`` above ``refuse``, and where the distance is no number.
    """
    if spec is None or unfamiliarity is None:
        return None
    # A comparison with NaN is false, so it is asked this way round.
    if not unfamiliarity <= spec.refuse:
        reason = (
            "the picture is too unlike the films the model learnt from "
            f"(distance {unfamiliarity:.2f}, analysed up to {spec.refuse:.2f})"
        )
        raise ImageRefused(RefusalCode.UNFAMILIAR, reason)
    return UNFAMILIAR_NOTE if unfamiliarity > spec.notice else None
