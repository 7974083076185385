"""``MODEL_CARD.md``: what ``bundle.json`` and ``metrics.json`` say, for people. Nothing is added.

What the figures do not tell (terms of the data, limits) is in :mod:`vigil_training.card_text`;
every number in the card comes from the two files. Another measurement adds itself to both with
:func:`write_section`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, Field, JsonValue, ValidationError

from vigil.bundle import BundleManifest, load_bundle
from vigil.errors import ConfigurationError
from vigil_training import card_tables
from vigil_training.card_text import DATA, GATE_DATA, INTENDED_USE, LIMITS, PROHIBITED_USES
from vigil_training.figures import Evaluation, Section
from vigil_training.gate_check import GateFigures

METRICS_NAME = "metrics.json"
CARD_NAME = "MODEL_CARD.md"


class Metrics(Evaluation):
    """``metrics.json``: an evaluation, the gate where it was measured, and other measurements."""

    gate: tuple[GateFigures, ...] = ()
    sections: dict[str, Section] = Field(default_factory=dict)


class Measured(Protocol):
    """Figures of another measurement that say themselves in Markdown."""

    def card_lines(self) -> tuple[str, ...]:
        """Return lines of Markdown."""
        ...

    def model_dump_json(self) -> str:
        """Return the figures as JSON."""
        ...


def read_metrics(path: Path) -> Metrics:
    """Read a ``metrics.json``.

    Raises
    ------
    ConfigurationError
        If it is missing, or holds something else.
    """
    try:
        return Metrics.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, ValidationError) as error:
        raise ConfigurationError(f"{path}: holds no figures of `vigil evaluate`") from error


def write_metrics(path: Path, found: Evaluation, gate: Sequence[GateFigures] = ()) -> None:
    """Write an evaluation; a section that is there already stays if it is of the same bundle.

    Raises
    ------
    ConfigurationError
        If it cannot be written.
    """
    sections: dict[str, Section] = {}
    if path.is_file():
        try:
            before = read_metrics(path)
        except ConfigurationError:
            before = None  # what an older version wrote gives way
        if before is not None and before.digest == found.digest:
            sections = before.sections
    content = found.model_dump() | {"gate": tuple(gate), "sections": sections}
    _write(path, Metrics.model_validate(content))


def write_section(bundle: Path, name: str, title: str, figures: Measured) -> Path:
    """Add a measurement to a bundle's ``metrics.json`` and card, and return the card's path.

    Parameters
    ----------
    bundle
        A bundle whose metrics ``vigil evaluate --card`` has written.
    name, title
        What the section is called in ``metrics.json`` and in the card.
    figures
        What was measured on this bundle.

    Raises
    ------
    BundleError, ConfigurationError
        As :func:`write_card`.
    """
    path = bundle / METRICS_NAME
    metrics = read_metrics(path)
    _check_digest(path, metrics, load_bundle(bundle).manifest)
    values: JsonValue = json.loads(figures.model_dump_json())
    section = Section(title=title, lines=figures.card_lines(), figures=values)
    _write(path, metrics.model_copy(update={"sections": metrics.sections | {name: section}}))
    return write_card(bundle)


def _write(path: Path, metrics: Metrics) -> None:
    content = json.dumps(metrics.model_dump(mode="json"), indent=1, ensure_ascii=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written ({error.strerror})") from error


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
    metrics = read_metrics(path)
    _check_digest(path, metrics, manifest)
    card = bundle / CARD_NAME
    card.write_text(render(manifest, metrics), encoding="utf-8")
    return card


def _check_digest(path: Path, metrics: Metrics, manifest: BundleManifest) -> None:
    if metrics.digest != manifest.digest:
        raise ConfigurationError(
            f"{path}: was measured on {metrics.digest[:12]}…, the bundle is {manifest.digest[:12]}…"
        )


class _Part(BaseModel):
    title: str
    lines: tuple[str, ...]


def render(manifest: BundleManifest, metrics: Metrics) -> str:
    """Return the card's text."""
    training = manifest.training
    chosen = "" if training.get("keep") == "last" else "the epoch, "
    points = card_tables.operating_points(manifest, metrics.background)
    outlined = card_tables.outlines(metrics.outlines) + card_tables.ratios(metrics.ratios)
    parts = (
        _Part(title="What it is", lines=_what_it_is(manifest)),
        _Part(title="What it is for", lines=tuple(INTENDED_USE.splitlines())),
        _Part(title="What it must not be used for", lines=tuple(PROHIBITED_USES.splitlines())),
        _Part(title="Figures", lines=card_tables.figures(metrics)),
        _Part(title="Parts of the patients", lines=card_tables.parts(metrics)),
        _Part(title="Other hospitals", lines=card_tables.strangers(metrics.sources)),
        _Part(title="Calibration", lines=card_tables.calibration(metrics.results)),
        _Part(title="Operating points", lines=points),
        _Part(title="Uncertain", lines=card_tables.certainty(metrics.results)),
        _Part(title="Gate", lines=card_tables.gate(metrics.gate)),
        _Part(title="Outlines", lines=outlined),
        *(_Part(title=added.title, lines=added.lines) for added in metrics.sections.values()),
        _Part(title="Data and terms", lines=_data(str(training.get("sources", "")))),
        _Part(title="Limits", lines=tuple(LIMITS.format(chosen=chosen).splitlines())),
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
    )


def _data(sources: str) -> tuple[str, ...]:
    named = [name.strip() for name in sources.split(",")]
    lines = [f"- `{name}`: {DATA[name]}" for name in named if name in DATA]
    return (*lines, f"- {GATE_DATA}") if lines else ("Generated pictures; nobody's.",)


def _how_to_repeat(manifest: BundleManifest, metrics: Metrics) -> tuple[str, ...]:
    training = manifest.training
    return (
        "```",
        f"vigil train training/configs/{training.get('run')}.toml",
        f"vigil export runs/{training.get('run')} --to models/{manifest.id}",
        f"vigil evaluate --bundle models/{manifest.id} --manifest {metrics.manifest} "
        f"--split {metrics.split} --gate GATE.csv --card --plots PLOTS",
        "```",
        f"Seed {training.get('seed')}, commit `{training.get('commit')}`; weights of epoch "
        f"{training.get('best_epoch')} of {training.get('epochs')}; "
        f"{training.get('seconds')} s of training.",
    )
