"""What Vigil has to say of each real file, whoever forwards it."""

from pathlib import Path

import pydicom

RADIOGRAPHS = (
    "RG1_J2KI.dcm",
    "CR-MONO1-10-chest.dcm",
    "rsna_c64d5667.dcm",
    "siim_6904.dcm",
    "siim_6904_fake_mono1.dcm",
)

REFUSED = {
    "chrJapMulti.dcm": "TOO_SMALL",
    "RG3_J2KI.dcm": "NOT_CHEST",
    "RG3_JPLL.dcm": "NOT_CHEST",
    "RG3_RLE.dcm": "NOT_CHEST",
    "RG3_JLSN.dcm": "NOT_CHEST",
    "RG3_JPLY.dcm": "NOT_CHEST",
    "RG2_JPLL.dcm": "NOT_CHEST",
    "RG2_J2KI.dcm": "NOT_CHEST",
    "GH133.dcm": "NOT_RADIOGRAPH",
    "HasFragmentSequence.dcm": "NOT_RADIOGRAPH",
    "vlut_04.dcm": "NOT_RADIOGRAPH",
    "mlut_18.dcm": "NOT_RADIOGRAPH",
    "CT_small.dcm": "NOT_RADIOGRAPH",
    "MR_small.dcm": "NOT_RADIOGRAPH",
    "examples_rgb_color.dcm": "NOT_RADIOGRAPH",
    "examples_palette.dcm": "NOT_RADIOGRAPH",
    "test-SR.dcm": "NOT_RADIOGRAPH",
    "badVR.dcm": "NOT_RADIOGRAPH",
    "image_dfl.dcm": "NOT_RADIOGRAPH",
    "ExplVR_BigEnd.dcm": "NOT_RADIOGRAPH",
    "JPEG2000-embedded-sequence-delimiter.dcm": "NOT_RADIOGRAPH",
    "J2K_pixelrep_mismatch.dcm": "NOT_RADIOGRAPH",
    "SC_rgb_rle_16bit_2frame.dcm": "NOT_RADIOGRAPH",
}

# No sender can read an identity or a data set out of these, so they never reach a receiver.
DAMAGED = {"MR_truncated.dcm", "no_meta.dcm", "meta_missing_tsyntax.dcm", "rtplan_truncated.dcm"}


def sop_instance_uid(path: Path) -> str:
    """Return a file's SOP instance UID."""
    return str(pydicom.dcmread(path, stop_before_pixels=True, force=True).SOPInstanceUID)


def codes(instances: dict[str, dict[str, object]], files: list[Path]) -> dict[str, object]:
    """Return what became of each file: ``analysed``, its code, or ``absent``."""
    found = {}
    for path in files:
        instance = instances.get(sop_instance_uid(path))
        if instance is None:
            found[path.name] = "absent"
        else:
            found[path.name] = instance["code"] or instance["state"]
    return found


EXPECTED: dict[str, object] = dict.fromkeys(RADIOGRAPHS, "analysed") | REFUSED
