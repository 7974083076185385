"""What is measured of heat maps, and how a model card says it."""

from collections.abc import Sequence
from typing import Final, Literal

from vigil.localisation import Localisation
from vigil_training.figures import Figures

HELD_OUT: Final = "took no part in the training"
LEARNT: Final = "their pictures were learnt from"
Interval = tuple[float, float] | None
BoxGroup = Literal["took no part in the training", "their pictures were learnt from"]


class OrganFigures(Figures):
    """How much of the positive emphasis of an organ's findings lies in the organ.

    ``area`` is the organ's part of the picture, which a map that knows nothing would give;
    ``other_film`` is the share that the same finding's map of other films has in this organ.
    ``findings`` says of which: of all that have a map, or of those at or over their thresholds.
    """

    organ: str
    findings: Literal["all", "flagged"]
    source: str
    maps: int
    films: int
    inside: float
    inside_interval: Interval
    area: float
    other_film: float | None
    more_than_other_film_interval: Interval
    hottest_inside: float


class ShuffleFigures(Figures):
    """How like its own map a map becomes when weights are shuffled, or the picture is another.

    ``rank_correlation`` is Spearman's over the picture's places, ``structural_similarity`` that of
    Wang et al. 2004 after both maps were stretched to 0…1; means over findings, then over films.
    """

    shuffled: str
    films: int
    rank_correlation: float
    rank_correlation_interval: Interval
    magnitude: float
    """Mean of the rank correlation without its sign."""
    structural_similarity: float


class PointerFigures(Figures):
    """How one way of pointing does against the boxes. Distances are parts of the width."""

    pointer: str
    hits: float
    distance: float
    overlap: float | None
    """Intersection over union of the region that results draw and the boxes."""


class BoxFigures(Figures):
    """Maps against the boxes of radiologists, the maps' own row first, then what knows less."""

    group: BoxGroup
    films: int
    without_map: int
    flagged: int
    """Films whose marked finding was at or over its threshold."""
    labels: dict[str, int]
    hit_interval: Interval
    distance_interval: Interval
    overlap_interval: Interval
    more_hits_than_other_film_interval: Interval
    pointers: tuple[PointerFigures, ...]


class HeatMapFigures(Figures):
    """What was measured of a bundle's heat maps."""

    bootstrap_samples: int
    organs: tuple[OrganFigures, ...]
    shuffles: tuple[ShuffleFigures, ...]
    boxes: tuple[BoxFigures, ...]
    localisation: Localisation | None

    @property
    def notices_shuffled_weights(self) -> bool:
        """Whether shuffling all weights changes the maps beyond doubt."""
        last = next((s for s in self.shuffles if s.shuffled == "all"), None)
        bounds = None if last is None else last.rank_correlation_interval
        return bounds is not None and bounds[1] < 0.5

    @property
    def notices_shuffled_pictures(self) -> bool:
        """Whether maps fit their own film's organ better than other films' maps, everywhere."""
        bounds = [row.more_than_other_film_interval for row in self.organs]
        return bool(bounds) and all(bound is not None and bound[0] > 0 for bound in bounds)

    def card_lines(self) -> tuple[str, ...]:
        """Return the model card's lines."""
        return (
            *_box_lines(self.boxes),
            "",
            f"Intervals: 95 %, {self.bootstrap_samples} bootstrap samples of patients. A hit: the "
            "hottest point lies in a box. Distance: from the region's centre to the nearest box's "
            "centre, as a part of the picture's width. Overlap: intersection over union.",
            "",
            "| emphasis in | findings | source | maps | films | inside | organ's area "
            "| other films' maps | hottest point inside |",
            "|---|---|---|---|---|---|---|---|---|",
            *(
                f"| {row.organ} | {row.findings} | {row.source} | {row.maps} | {row.films} "
                f"| {_with(row.inside, row.inside_interval)} | {row.area:.3f} "
                f"| {'–' if row.other_film is None else f'{row.other_film:.3f}'} "
                f"| {row.hottest_inside:.3f} |"
                for row in self.organs
            ),
            "",
            "Shuffled pictures: the maps fit their own film better than other films' maps do, in "
            "every row."
            if self.notices_shuffled_pictures
            else "**Shuffled pictures: not in every row do the maps fit their own film better than "
            "other films' maps do: there they say more of where findings usually are.**",
            "",
            "| shuffled | films | rank correlation | without sign | structural similarity |",
            "|---|---|---|---|---|",
            *(
                f"| {row.shuffled} | {row.films} "
                f"| {_with(row.rank_correlation, row.rank_correlation_interval)} "
                f"| {row.magnitude:.3f} | {row.structural_similarity:.3f} |"
                for row in self.shuffles
            ),
            "",
            "Shuffled weights: the maps change, as they must (Adebayo et al. 2018)."
            if self.notices_shuffled_weights
            else "**Shuffled weights: the maps do not change as they must: do not show them.**",
        )


def _box_lines(boxes: Sequence[BoxFigures]) -> tuple[str, ...]:
    if not boxes:
        return ("No film with a radiologist's box was measured.",)
    lines = []
    for group in boxes:
        labels = ", ".join(f"{count} {label}" for label, count in group.labels.items())
        own = group.pointers[0]
        lines += [
            (
                f"Against radiologists' boxes, {group.films} films that {group.group}"
                if group.group == HELD_OUT
                else f"The same for {group.films} films: {group.group}, though never their boxes"
            )
            + f" ({labels}; {group.flagged} flagged). {group.without_map} more had no map that "
            "shows a place.",
            "",
            "| pointer | hits | distance | overlap |",
            "|---|---|---|---|",
            f"| {own.pointer} | {_with(own.hits, group.hit_interval)} "
            f"| {_with(own.distance, group.distance_interval)} "
            f"| {_with(own.overlap or 0.0, group.overlap_interval)} |",
            *(
                f"| {row.pointer} | {row.hits:.3f} | {row.distance:.3f} "
                f"| {'–' if row.overlap is None else f'{row.overlap:.3f}'} |"
                for row in group.pointers[1:]
            ),
            "",
        ]
    return tuple(lines[:-1])


def _with(value: float, interval: Interval) -> str:
    return f"{value:.3f}" + ("" if interval is None else f" ({interval[0]:.3f}–{interval[1]:.3f})")
