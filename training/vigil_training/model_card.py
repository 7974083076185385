"""``MODEL_CARD.md``: what ``bundle.json`` and ``metrics.json`` say, for people. Nothing is added.

What the figures do not tell (terms of the data, limits) is the text below; every number in the
card comes from the two files.
"""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from vigil.bundle import BundleManifest, FindingSpec, load_bundle
from vigil.errors import ConfigurationError
from vigil_training.evaluate import Evaluation, LabelFigures, SourceFigures
from vigil_training.gate_check import GateFigures

METRICS_NAME = "metrics.json"
CARD_NAME = "MODEL_CARD.md"

_DATA = {
    "nih": (
        "NIH ChestX-ray14 (part), provided by the NIH Clinical Center; Wang et al., “ChestX-ray8”, "
        "CVPR 2017. Free to use. Labels were mined from reports by a program and are partly wrong; "
        "pneumonia is enriched in this part."
    ),
    "kermany": (
        "Kermany et al. 2018, “Labeled OCT and Chest X-Ray Images”, CC BY 4.0. Children of 1 to 5 "
        "years, one hospital in Guangzhou; had only at 224 pixels with the aspect ratio squashed."
    ),
    "shenzhen": (
        "Shenzhen tuberculosis set, US National Library of Medicine; Jaeger et al. 2014, Candemir "
        "et al. 2014."
    ),
    "montgomery": (
        "Montgomery County tuberculosis set, US National Library of Medicine; Jaeger et al. 2014, "
        "Candemir et al. 2014. Films carry a burnt-in marker and black margins."
    ),
    "wingspan": (
        "Dong et al. 2018, cardiothoracic ratio set, MIT. Cardiomegaly is derived from the ratio "
        "(0.55 or more; below 0.50 negative), not read."
    ),
}
_GATE_DATA = (
    "Pictures that are no chest film: FracAtlas, X-ray sets of spine, infant pelvis and shoulder "
    "implants, MedNIST hands and CT (B. J. Erickson, Mayo Clinic; CC BY-SA 4.0), breast ultrasound "
    "(BUSI), CT (COVID-19-NY-SBU), sample DICOM files, photographs and generated documents. One "
    "source a class: a high score here proves little."
)
_LIMITS = """\
- Research use only. Not a medical device. It must not replace, delay or shorten anybody's reading.
- Probabilities are calibrated to the validation patients' mix, in which disease is far more
  frequent than in a screening programme or an emergency room. At another hospital they are ranks
  until a site calibration is made.
- The same validation patients chose the best epoch, the calibration and the thresholds, and give
  the figures above: these are optimistic. Patients of another hospital will do worse.
- One threshold and one calibration serve all sources of a finding: where the table shows another
  sensitivity or calibration error for each, no hospital may expect either.
- The gate's other pictures are split by picture, for most name no patient: some CT patients are on
  both sides.
- The gate refuses pictures under 128 pixels before the network sees them (most hands and CT here),
  so those rows say nothing of the network.
- A part of the NIH patients is on that set's official test list: no figure here compares with
  published ChestX-ray14 results.
- Labels of the NIH set come from reports; a radiologist would disagree with many.
- Tuberculosis: two sets, internal validation on both; not a trial, not an estimate for any country.
- No human lateral chest films could be had: for them the header decides; the picture check is
  untested.
- Inverted and turned films for the gate were made from good ones.
- Children between 6 and 14 years have no finding: nothing here was learnt from them.
- No output for COVID-19: the only set holds no negatives.
- The heat map shows where the score comes from, not where the disease is; it was not measured
  against a radiologist's marks.
- Validation of the parts by sex, view and device is still to be done.
"""


class Metrics(Evaluation):
    """``metrics.json``: an evaluation, and the gate where it was measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gate: tuple[GateFigures, ...] = ()


class _Part(BaseModel):
    title: str
    lines: tuple[str, ...]


def write_card(bundle: Path) -> Path:
    """Write a bundle's card from its own files and return its path.

    Raises
    ------
    BundleError
        If the bundle is not whole.
    ConfigurationError
        If ``metrics.json`` is missing, or was measured on another bundle.
    """
    manifest = load_bundle(bundle).manifest
    path = bundle / METRICS_NAME
    try:
        metrics = Metrics.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, ValidationError) as error:
        raise ConfigurationError(f"{path}: holds no figures of `vigil evaluate`") from error
    if metrics.digest != manifest.digest:
        raise ConfigurationError(
            f"{path}: was measured on {metrics.digest[:12]}…, the bundle is {manifest.digest[:12]}…"
        )
    card = bundle / CARD_NAME
    card.write_text(render(manifest, metrics), encoding="utf-8")
    return card


def render(manifest: BundleManifest, metrics: Metrics) -> str:
    """Return the card's text."""
    training = manifest.training
    parts = (
        _Part(title="What it is", lines=_what_it_is(manifest)),
        _Part(title="Figures", lines=_figures(metrics)),
        _Part(title="Operating points", lines=_operating_points(manifest)),
        _Part(title="Gate", lines=_gate(metrics)),
        _Part(title="Data and terms", lines=_data(str(training.get("sources", "")))),
        _Part(title="Limits", lines=tuple(_LIMITS.splitlines())),
        _Part(title="How to repeat it", lines=_how_to_repeat(manifest, metrics)),
    )
    body = "\n\n".join(f"## {part.title}\n\n" + "\n".join(part.lines) for part in parts)
    return f"# {manifest.id}\n\n**{manifest.notice}.**\n\n{body}\n"


def _what_it_is(manifest: BundleManifest) -> tuple[str, ...]:
    return (
        manifest.description,
        "",
        f"- Network: {manifest.architecture}; input {manifest.preprocessing.size} pixels, "
        f"preprocessing version {manifest.preprocessing.version}",
        f"- Digest: `{manifest.digest}`",
        f"- Made: {manifest.created}",
        "- Intended use: ordering a worklist in research and development, with a radiologist "
        "reading every picture.",
    )


def _figures(metrics: Metrics) -> tuple[str, ...]:
    head = (
        f"Measured by `vigil evaluate` on `{metrics.manifest}`, split `{metrics.split}`, through "
        f"the code that serves (software {metrics.software}, {metrics.created}). Intervals: 95 %, "
        f"{metrics.bootstrap_samples} bootstrap samples of patients.",
        "",
        "| label | source | n | positive | AUROC | sensitivity | specificity | ECE | Brier |",
        "|---|---|---|---|---|---|---|---|---|",
    )
    return (
        *head,
        *(_figure_row(row) for row in metrics.results),
        "",
        *(_source_line(source) for source in metrics.sources),
        "",
        *(f"{note}" for note in metrics.notes),
    )


def _figure_row(row: LabelFigures) -> str:
    area = "–"
    if row.auroc is not None:
        area = f"{row.auroc:.3f}"
        if row.auroc_low is not None and row.auroc_high is not None:
            area += f" ({row.auroc_low:.3f}–{row.auroc_high:.3f})"
    values = (row.sensitivity, row.specificity, row.expected_calibration_error, row.brier)
    return f"| {row.label} | {row.source} | {row.n} | {row.positives} | {area} | " + " | ".join(
        "–" if value is None else f"{value:.3f}" for value in values
    ) + " |"  # fmt: skip


def _source_line(source: SourceFigures) -> str:
    refused = ", ".join(f"{count} {code}" for code, count in source.refused.items()) or "none"
    line = f"- {source.source}: {source.analysed} of {source.pictures} analysed; refused: {refused}"
    if source.corrected:
        line += f"; {source.corrected} put right by the gate"
    if source.mean_auroc is not None:
        line += f"; mean AUROC {source.mean_auroc:.3f} over {source.labels_in_mean} labels"
    return line


def _operating_points(manifest: BundleManifest) -> tuple[str, ...]:
    rule = manifest.training.get("experimental_rule", "")
    head = (
        "Chosen on the validation patients of all sources together, before the gate. "
        f"Experimental: {rule}.",
        "",
        "| finding | ages | asks for | flag at | sensitivity | specificity | critical at | |",
        "|---|---|---|---|---|---|---|---|",
    )
    return (*head, *(_operating_row(finding) for finding in manifest.findings))


def _operating_row(finding: FindingSpec) -> str:
    low, high = finding.population.min_age_years, finding.population.max_age_years
    ages = "all" if low is None else f"{low:g} and over" if high is None else f"{low:g} to {high:g}"
    flag, critical = finding.flag, finding.critical
    return (
        f"| {finding.key} | {ages} | {finding.priority} | {flag.threshold:.3f} "
        f"| {_share(flag.sensitivity)} of {flag.positives} "
        f"| {_share(flag.specificity)} of {flag.negatives} "
        f"| {'–' if critical is None else f'{critical.threshold:.3f}'} "
        f"| {'experimental' if finding.experimental else ''} |"
    )


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _gate(metrics: Metrics) -> tuple[str, ...]:
    if not metrics.gate:
        return ("Not measured.",)
    head = (
        "| shown | kind | pictures | passed as it is | put right | refused |",
        "|---|---|---|---|---|---|",
    )
    return (
        *head,
        *(
            f"| {row.group} | {row.kind} | {row.pictures} | {row.passed} | {row.put_right} "
            f"| {', '.join(f'{count} {code}' for code, count in row.refused.items()) or 'none'} |"
            for row in metrics.gate
        ),
    )


def _data(sources: str) -> tuple[str, ...]:
    named = [name.strip() for name in sources.split(",")]
    lines = [f"- `{name}`: {_DATA[name]}" for name in named if name in _DATA]
    return (*lines, f"- {_GATE_DATA}") if lines else ("Generated pictures; nobody's.",)


def _how_to_repeat(manifest: BundleManifest, metrics: Metrics) -> tuple[str, ...]:
    training = manifest.training
    return (
        "```",
        f"vigil train training/configs/{training.get('run')}.toml",
        f"vigil export runs/{training.get('run')} --to models/{manifest.id}",
        f"vigil evaluate --bundle models/{manifest.id} --manifest {metrics.manifest} "
        f"--split {metrics.split} --gate GATE.csv --card",
        "```",
        f"Seed {training.get('seed')}, commit `{training.get('commit')}`; best epoch "
        f"{training.get('best_epoch')} of {training.get('epochs')}; "
        f"{training.get('seconds')} s of training.",
    )
