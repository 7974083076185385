"""Do reduced and whole decoding say the same? Scores, flags and AUROC on real films.

``python tests/bench/bench_agreement.py --manifest ../shared/data/cxr-train/manifest.csv`` enlarges
films of a data set to 3,000 pixels, adds a detector's noise, writes them in each transfer
syntax, and judges every file twice: as it is served, and decoded in whole.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.encaps import encapsulate
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from vigil.bundle import BundleError, default_bundle, load_bundle
from vigil.phantom import MAX_STORED_VALUE, Phantom, PhantomKind
from vigil.phantom.dicom import write_dx
from vigil.preprocess import least_side_of
from vigil.reading import read_radiograph
from vigil.triager import Triager
from vigil_training.manifest import ManifestRow, read_manifest

_NOISE = 30.0
LOSSY: dict[str, Callable[[NDArray[np.uint16]], bytes]] = {
    uid.JPEG2000: lambda a: imagecodecs.jpeg2k_encode(
        a, codecformat="j2k", reversible=False, level=50, bitspersample=12
    ),
    uid.HTJ2K: lambda a: imagecodecs.htj2k_encode(a, reversible=False, level=1e-4),
    uid.JPEGExtended12Bit: lambda a: imagecodecs.jpeg_encode(a, level=92, bitspersample=12),
}
SYNTAXES = (
    uid.ExplicitVRLittleEndian,
    uid.JPEGLSLossless,
    uid.HTJ2KLossless,
    uid.JPEG2000Lossless,
    *LOSSY,
)
QUICK = (uid.ExplicitVRLittleEndian, uid.HTJ2KLossless, uid.HTJ2K)
"""One of each kind; JPEG 2000 has the wavelets of HTJ2K and takes twenty times as long."""


@dataclass
class Agreement:
    """What one transfer syntax showed."""

    differences: list[float] = field(default_factory=list)
    flags: int = 0
    flags_apart: int = 0
    answers_apart: int = 0
    whole: list[dict[str, float]] = field(default_factory=list)
    reduced: list[dict[str, float]] = field(default_factory=list)
    rows: list[ManifestRow] = field(default_factory=list)


def enlarged(path: Path, longer: int, seed: int) -> NDArray[np.uint16]:
    """Return a film as a detector of ``longer`` pixels would give it: 12 bits, with noise."""
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    scale = longer / max(picture.shape)
    size = round(picture.shape[1] * scale), round(picture.shape[0] * scale)
    large = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC).astype(np.float32) * 16
    large += np.random.default_rng(seed).normal(0, _NOISE, large.shape)
    return large.clip(0, MAX_STORED_VALUE).astype(np.uint16)


def write_film(stored: NDArray[np.uint16], seed: int, syntax: str, folder: Path) -> Path:
    """Write a film as DX in a transfer syntax."""
    import pydicom

    nothing = np.zeros(stored.shape, bool)
    phantom = Phantom(stored, PhantomKind.NORMAL, seed, (), nothing, nothing)
    path = folder / "film.dcm"
    if syntax not in LOSSY:
        return write_dx(phantom, path, transfer_syntax=syntax)
    dataset = pydicom.dcmread(write_dx(phantom, path))
    dataset.PixelData = encapsulate([bytes(LOSSY[syntax](stored))])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path)
    return path


def compare(triager: Triager, path: Path, row: ManifestRow, agreement: Agreement) -> None:
    """Judge a file reduced and whole."""
    reduced = triager.triage(path, age_years=row.age_years)
    whole = triager.judge(read_radiograph(path), age_years=row.age_years)
    if reduced.code != whole.code:
        agreement.answers_apart += 1
    if reduced.code is not None or whole.code is not None:
        return
    findings = whole.findings
    agreement.differences.append(max(abs(reduced.findings[k] - findings[k]) for k in findings))
    agreement.flags += len(findings)
    agreement.flags_apart += len({f.label for f in whole.flags} ^ {f.label for f in reduced.flags})
    agreement.whole.append(dict(findings))
    agreement.reduced.append(dict(reduced.findings))
    agreement.rows.append(row)


def mean_auroc(scores: list[dict[str, float]], rows: list[ManifestRow]) -> float:
    """Return the mean AUROC of the findings that have both classes."""
    values = []
    for label in sorted(set().union(*scores)):
        judged = [
            (label in row.labels, score[label])
            for row, score in zip(rows, scores, strict=True)
            if label in row.label_scope and label in score
        ]
        truth = [present for present, _ in judged]
        if len(set(truth)) == 2:
            values.append(roc_auc_score(truth, [score for _, score in judged]))
    return float(np.mean(values)) if values else float("nan")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--films", type=int, default=200)
    parser.add_argument("--size", type=int, default=3000)
    parser.add_argument("--quick", action="store_true", help="one transfer syntax of each kind")
    options = parser.parse_args()
    try:
        bundle = load_bundle(options.bundle or default_bundle())
    except BundleError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    triager = Triager(bundle, 1)
    rows = read_manifest(options.manifest)
    chosen = np.random.default_rng(0).permutation(len(rows))[: options.films]
    found = {syntax: Agreement() for syntax in (QUICK if options.quick else SYNTAXES)}
    with tempfile.TemporaryDirectory() as folder:
        for index in chosen:
            stored = enlarged(rows[index].path, options.size - int(index) % 9, int(index))
            for syntax, agreement in found.items():
                path = write_film(stored, int(index), syntax, Path(folder))
                compare(triager, path, rows[index], agreement)
    table = Table(
        title=f"{len(chosen)} films at {options.size} pixels, reduced against whole, "
        f"bundle {bundle.id}, {least_side_of(bundle.preprocessing)}",
        caption=f"greatest difference of a probability in a film; load {os.getloadavg()[0]:.1f}",
    )
    for column in (
        "Transfer syntax", "films", "max", "95 %", "mean", "flags apart", "answers apart",
        "AUROC whole", "reduced",
    ):  # fmt: skip
        table.add_column(column, justify="left" if column == "Transfer syntax" else "right")
    for syntax, agreement in found.items():
        apart = np.array(agreement.differences or [np.nan])
        table.add_row(
            uid.UID(syntax).name,
            str(len(agreement.rows)),
            f"{apart.max():.4f}",
            f"{np.quantile(apart, 0.95):.4f}",
            f"{apart.mean():.4f}",
            f"{agreement.flags_apart} of {agreement.flags}",
            str(agreement.answers_apart),
            f"{mean_auroc(agreement.whole, agreement.rows):.4f}",
            f"{mean_auroc(agreement.reduced, agreement.rows):.4f}",
        )
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
