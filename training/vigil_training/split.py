"""Which patients are held out. Never a picture by itself: one patient is on one side only."""

import hashlib
from typing import Literal, cast

from vigil_training.manifest import GateRow, ManifestRow

Side = Literal["train", "val", "test"]


def side_of(source: str, patient_id: str, seed: int, fraction: float) -> Side:
    """Return the side of a patient: a hash alone decides, so more data moves nobody.

    Parameters
    ----------
    source, patient_id
        Together they name a person; each source is therefore split on its own.
    seed
        The split's seed.
    fraction
        The part of the patients that is held out.
    """
    digest = hashlib.sha256(f"{seed}\0{source}\0{patient_id}".encode()).digest()
    return "val" if int.from_bytes(digest[:8], "big") < fraction * 2**64 else "train"


def side_of_row(row: ManifestRow | GateRow, seed: int, fraction: float) -> Side:
    """Return the side of a row; a manifest's own split goes before the hash.

    A ``test`` row is on neither side: it chooses no epoch, no calibration and no threshold. A gate
    picture goes by itself, since its manifest names no patients.
    """
    if isinstance(row, GateRow):
        return side_of(row.source, row.image_id, seed, fraction)
    if row.split:
        return cast(Side, row.split)
    return side_of(row.source, row.patient_id, seed, fraction)
