"""The served network in 8-bit integers: static quantisation, accepted only if nothing is lost.

Backbone and decoder are quantised (activations unsigned, weights signed and scaled per channel),
the linear layer, the maps, the calibration and what follows stay in floating point. Blocks that
cost most are put back into floating point until the validation patients are judged as before; if
that takes more than half of the blocks, the bundle keeps its one network.

All of it is measured in exact integer arithmetic, which is what a processor with VNNI does and
what :func:`vigil.processor.exact_integers` asks of one without: ``docs/decisions/int8.md``.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from onnxruntime.quantization.calibrate import TensorsData

from vigil.bundle import Bundle, ModelFile, load_bundle, write_manifest
from vigil.reference import write_reference_outputs
from vigil_training.manifest import read_manifest
from vigil_training.model_card import METRICS_NAME, read_metrics, write_section
from vigil_training.quantization.figures import QuantizationFigures, Step
from vigil_training.quantization.films import Films, read_films, sides_of, spread
from vigil_training.quantization.graph import METHODS, Quantiser
from vigil_training.quantization.measure import Judged, answers, judge, measure, signal_to_noise

INT8_NAME = "model.int8.onnx"
SECTION = "quantization"

CALIBRATION_FILMS = 256
_RANKING_FILMS = 48

Report = Callable[[str], None]


def quantize(
    folder: Path,
    data: Path,
    *,
    to: Path | None = None,
    report: Report = lambda line: None,
) -> QuantizationFigures:
    """Add an 8-bit network to a bundle, if its validation patients are judged as before.

    Parameters
    ----------
    folder
        The bundle's folder.
    data
        The folder of ``manifest.csv``: training pictures calibrate the quantisation, validation
        pictures, by the bundle's own split, accept or refuse it. An open model, which has none,
        is judged on a fifth of the patients.
    to
        Where the bundle is copied first; it is changed in place by default.
    report
        Told of each step in a sentence.

    Returns
    -------
    QuantizationFigures
        What was measured. It becomes a section of ``metrics.json`` and of the card where ``vigil
        evaluate --card`` has measured this bundle.

    Raises
    ------
    BundleError
        If the bundle is not whole, or nothing in its graph can be quantised.
    ConfigurationError
        If the bundle does not record its split, a side has no picture, or no label is known.
    """
    if to is not None:
        shutil.copytree(folder, to)
        folder = to
    bundle = load_bundle(folder)
    rows = read_manifest(data / "manifest.csv")
    train, val = sides_of(bundle, rows)
    calibration = read_films(bundle, spread(train, CALIBRATION_FILMS))
    judged = judge(bundle, read_films(bundle, val))
    report(f"{len(calibration.rows)} calibration and {len(val)} validation pictures are read")
    with TemporaryDirectory() as place:
        best, network = _search(bundle, calibration, judged, Path(place), report)
    figures = _publish(bundle, best, network)
    report("; ".join(figures.complaints) or f"{folder / INT8_NAME} is accepted")
    return figures


def _search(
    bundle: Bundle, calibration: Films, judged: Judged, place: Path, report: Report
) -> tuple[QuantizationFigures, bytes]:
    """Return the first network that is accepted, or the last that is not, with its figures."""
    quantiser = Quantiser(bundle.model_path, place)
    few = calibration.pictures[:: max(1, len(calibration.rows) // _RANKING_FILMS)]
    expected = answers(bundle, str(bundle.model_path), few)

    def ratio(ranges: TensorsData, blocks: Sequence[str]) -> float:
        found = answers(bundle, quantiser.write(ranges, blocks), few)
        return signal_to_noise(expected, found)

    choices = []
    for name in METHODS:
        ranges = quantiser.ranges(calibration, name)
        choices.append((ratio(ranges, quantiser.blocks), name, ranges))
        report(f"all blocks quantised, calibrated by {name}: {choices[-1][0]:.1f} dB")
    _, method, ranges = max(choices, key=lambda choice: choice[0])
    ranking: list[str] = []
    steps: list[Step] = []
    count = 0
    while True:
        in_float = tuple(ranking[:count])
        blocks = [block for block in quantiser.blocks if block not in in_float]
        network = quantiser.write(ranges, blocks)
        figures = measure(judged, network, len(calibration.rows), method, quantiser, in_float)
        steps.append(Step(calibration=method, in_float=in_float, complaints=figures.complaints))
        report(f"{len(in_float)} blocks in floating point: " + _said(figures))
        if not figures.losses or 2 * max(count + 1, 2) > len(quantiser.blocks):
            done = {"steps": tuple(steps), "accepted": not figures.complaints}
            return figures.model_copy(update=done), network
        if not ranking:
            ranking = sorted(quantiser.blocks, key=lambda block: ratio(ranges, [block]))
        count += 1 if count < 4 else 2


def _said(figures: QuantizationFigures) -> str:
    return "; ".join(figures.complaints) or "nothing is lost"


def _publish(bundle: Bundle, figures: QuantizationFigures, network: bytes) -> QuantizationFigures:
    """Write the network if it was accepted, the references of both, and the figures."""
    folder, entry = bundle.folder, None
    (folder / INT8_NAME).unlink(missing_ok=True)
    if figures.accepted:
        (folder / INT8_NAME).write_bytes(network)
        entry = ModelFile(file=INT8_NAME, sha256=hashlib.sha256(network).hexdigest())
    manifest = write_manifest(folder, bundle.manifest.model_copy(update={"model_int8": entry}))
    write_reference_outputs(folder)
    figures = figures.model_copy(update={"digest": manifest.digest})
    path = folder / METRICS_NAME
    if path.is_file() and (metrics := read_metrics(path)).digest == bundle.digest:
        # They were measured on the network in floating point, which is in the new bundle as it was.
        moved = metrics.model_copy(update={"digest": manifest.digest}).model_dump(mode="json")
        path.write_text(json.dumps(moved, indent=1, ensure_ascii=False) + "\n", "utf-8")
        write_section(folder, SECTION, "8-bit integers", figures)
    return figures
