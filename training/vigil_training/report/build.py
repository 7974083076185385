"""From the service's answers to the whole report."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from vigil.bundle import BundleManifest
from vigil.triager import Triager
from vigil_training.data_sets.inspection import Inspection, inspect
from vigil_training.evaluate import Judged, learnt_sources
from vigil_training.figures import Evaluation
from vigil_training.gate_check import GateFigures
from vigil_training.manifest import ManifestRow, read_manifest
from vigil_training.merits import LEAST_PATIENTS
from vigil_training.report.cautions import cautions_of
from vigil_training.report.checklists import checklists
from vigil_training.report.comparison import compare
from vigil_training.report.contents import SCHEMA, Drift, Model, Population, Report
from vigil_training.report.drift import measure_drift
from vigil_training.report.failures import Shown, with_pictures, worst
from vigil_training.report.findings import (
    LEAST_OF_A_SOURCE,
    answers_of,
    label_curves,
    withheld_of,
    without_figures,
)
from vigil_training.report.localisation import free_responses

_LIBRARIES = ("onnxruntime", "opencv-python-headless", "pydicom", "numpy", "scipy")
Show = Callable[[int, int], None]
Progress = Callable[[str], AbstractContextManager[Show]]


@dataclass
class Seconds:
    """How long each part took."""

    parts: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Count what is done inside for a part."""
        start = time.monotonic()
        yield
        spent = self.parts.get(part, 0.0) + time.monotonic() - start
        self.parts[part] = round(spent, 2)


@dataclass(frozen=True, eq=False)
class Made:
    """The report, and the pictures of its failures for the page."""

    report: Report
    shown: tuple[Shown, ...]


def build_report(
    bundle: Path,
    judged: Judged,
    found: Evaluation,
    gate: Sequence[GateFigures],
    *,
    manifest: Path,
    command: str,
    progress: Progress,
    seconds: Seconds,
    against: Judged | None = None,
    drift_from: Path | None = None,
    pictures: bool = True,
) -> Made:
    """Make the report of some answers.

    Parameters
    ----------
    bundle, manifest
        The bundle's folder and the manifest's file, both as they were judged.
    judged, found, gate
        The answers, their figures, and the gate's record where it was measured.
    command
        What was typed, without folders.
    progress
        Gives each part's bar.
    seconds
        What earlier parts took; this one adds its own.
    against
        Another bundle's answers on the same films.
    drift_from
        A manifest that these films are compared with.
    pictures
        Whether failures are read again and shown.
    """
    answers, samples = judged.answers, found.bootstrap_samples
    findings = {finding.key: finding for finding in judged.manifest.findings}
    triager = Triager.load(bundle)
    with seconds.of("what is withheld"):
        withheld = tuple(withheld_of(found.results, answers))
        hidden = {(row.label, row.source) for row in withheld if not row.group}
    results = tuple(
        without_figures(row) if (row.label, row.source) in hidden else row for row in found.results
    )
    pairs = [(row.label, row.source) for row in results if row.auroc is not None]
    with seconds.of("curves"), progress("drawing curves") as show:
        curves = []
        for done, (label, source) in enumerate(pairs, 1):
            own = answers_of(label, source, answers)
            curves.append(label_curves(label, source, own, findings, samples))
            show(done, len(pairs))
    rows = [answer.row for answer in answers]
    with seconds.of("boxes"), progress("comparing maps with boxes") as show:
        boxes = free_responses(triager, rows, samples, show)
    shown: list[Shown] = []
    with seconds.of("failures"), progress("looking at failures") as show:
        picked = list(worst(answers, pairs, findings)) if pictures else []
        for done, (answer, failure) in enumerate(picked, 1):
            shown.append(with_pictures(triager, answer, failure))
            show(done, len(picked))
    drift: Drift | None = None
    if drift_from is not None:
        with seconds.of("drift"), progress("comparing the two manifests") as show:
            evaluated = {row.path.resolve() for row in rows}
            films = read_manifest(drift_from)
            before = [row for row in films if row.path.resolve() not in evaluated]
            names = drift_from.name, manifest.name
            drift = measure_drift(names, before, rows, triager, show)
    inspected = _inspected(manifest, rows, judged.manifest)
    numbers = {row.number for row in rows}
    others = [row for row in judged.rows if row.number not in numbers]
    labels = dict.fromkeys(finding.label for finding in judged.manifest.findings)
    in_scope = {label for row in rows for label in row.label_scope}
    learnt = learnt_sources(judged.manifest)
    foreign = learnt is not None and any(row.source not in learnt for row in rows)
    has = {"external": foreign, "failures": shown, "others": others, "maps": shown or boxes}
    present = frozenset(name for name, contents in has.items() if contents)
    report = Report.model_validate(
        {
            **found.model_dump(),
            "results": results,
            "parts": [p for p in found.parts if (p.label, p.source) not in hidden],
            "gate": tuple(gate),
            "schema_version": SCHEMA,
            "command": command,
            "libraries": {name: version(name) for name in _LIBRARIES},
            "rows_in_manifest": len(judged.rows),
            "model": _model(judged.manifest),
            "evaluated": _population(inspected),
            "others": _population(_inspected(manifest, others, judged.manifest))
            if others
            else None,
            "cautions": tuple(cautions_of(judged, inspected.checked.findings)),
            "withheld": withheld,
            "not_measured": tuple(label for label in labels if label not in in_scope),
            "curves": tuple(curves),
            "free_response": boxes,
            "against": None if against is None else compare(judged, against),
            "drift": drift,
            "failures": tuple(one.failure for one in shown),
            "checklists": checklists(present),
            "least_patients": LEAST_OF_A_SOURCE,
            "least_patients_of_a_part": LEAST_PATIENTS,
            "seconds_by_part": seconds.parts,
        }
    )
    return Made(report, tuple(shown))


def _inspected(path: Path, rows: Sequence[ManifestRow], bundle: BundleManifest) -> Inspection:
    seed, fraction = (bundle.training.get(key) for key in ("split_seed", "validation_fraction"))
    return inspect(
        path,
        rows,
        split_seed=int(seed or 0),
        validation_fraction=float(fraction or 0.2),
        pictures=False,
    ).figures


def _population(found: Inspection) -> Population:
    return Population(
        films=found.films, patients=found.patients, sources=found.sources, labels=found.labels
    )


def _model(manifest: BundleManifest) -> Model:
    networks: tuple[str, ...] = ("32-bit floating point",)
    if manifest.model_int8 is not None:
        networks = (*networks, "8-bit integers where the processor suits")
    return Model(
        description=manifest.description,
        architecture=manifest.architecture,
        created=manifest.created,
        input_pixels=manifest.preprocessing.size,
        preprocessing_version=manifest.preprocessing.version,
        networks=networks,
        training=manifest.training,
        findings=tuple(finding.key for finding in manifest.findings),
        experimental=tuple(f.key for f in manifest.findings if f.experimental),
    )
