"""The model card of a converted bundle: what its authors say, and what nobody has measured."""

from collections.abc import Mapping

from vigil import RESEARCH_USE
from vigil_training.open_models.registry import BENCHMARKS, LICENCE, SOURCE, OpenModel
from vigil_training.open_models.store import Record


def model_card(
    model: OpenModel, record: Record, labels: tuple[str, ...], left_out: Mapping[str, str]
) -> str:
    """Return the card as Markdown.

    Parameters
    ----------
    model
        What the registry says.
    record
        What the store says of the file that was used.
    labels
        The outputs in the bundle, as torchxrayvision spells them.
    left_out
        The others, each with the reason.
    """
    missing = "\n".join(f"- {label}: {reason}" for label, reason in left_out.items())
    return f"""# {model.name}, from torchxrayvision

{RESEARCH_USE}.

Network and weights are by the authors of torchxrayvision ({SOURCE}, {LICENCE}); Vigil changed only
their container. Trained on: {model.trained_on}. The weights came as `{record.source_file}` with
SHA-256 `{record.source_sha256}`.

## What the numbers are

Each probability is the plain sigmoid of the network's output. **It is not calibrated**: 0.1 does
not mean one in ten. A finding is flagged at torchxrayvision's own operating point (the Youden point
on its authors' data); at another site that threshold is a guess. Every finding is marked
experimental, and is said of people of 15 years and over only. Nothing was validated with Vigil.

Input: the central square of the picture (preprocessing version 2) at {model.size} × {model.size}
pixels. What lies beside the square is not seen. The picture's own window is used, so two windows of
one picture score differently.

## AUROC as its authors publish it

{_figures(model, labels)}

## Outputs that are left out

{missing or "None."}

## Do not

Use it for a patient's care, for children, for lateral films, or compare its thresholds between
sites. Calibrate it on films of your own first, and measure it there.
"""


def _figures(model: OpenModel, labels: tuple[str, ...]) -> str:
    if not model.auroc:
        return "Its authors publish none for this model."
    sets = list(model.auroc)
    rows = [f"| | {' | '.join(sets)} |", f"|---|{'---|' * len(sets)}"]
    for label in labels:
        figures = (model.auroc[name].get(label) for name in sets)
        cells = " | ".join("–" if figure is None else f"{figure:.2f}" for figure in figures)
        rows.append(f"| {label} | {cells} |")
    table = "\n".join(rows)
    return (
        f"From {BENCHMARKS}, on 20 % of each data set. Several of these sets are in the training "
        f"data too, so the figures flatter. Vigil has not repeated them.\n\n{table}"
    )
