"""Refuses what would leak between training and judging.

A leak is a patient on two sides, a film on two sides (the same picture, or a copy that was encoded
anew), a source whose official split was mixed with a drawn one, or two sources that share films
and are split apart.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from vigil_training.data_sets.near_copies import Looks, copies, look_at_all
from vigil_training.data_sets.sets import OVERLAPS, SETS
from vigil_training.figures import Figures
from vigil_training.manifest import ManifestRow
from vigil_training.split import side_of_row

_SHOWN = 5
_OFFICIAL = frozenset(name for name, one in SETS.items() if one.official_split)
_WITH_TEST_PART = frozenset({"nih", "vindr-cxr", "vindr-pcxr"})
"""Sets whose official training part has no validation films: these are drawn from it."""


Kind = Literal["patients", "copies", "splits", "overlap", "one class", "pictures"]


class Finding(Figures):
    """One thing that was found: ``leak`` refuses the manifest, else it is a warning."""

    leak: bool
    kind: Kind
    what: str
    rows: tuple[str, ...]
    """Where, at most five."""
    count: int
    """How many rows it concerns."""
    advice: str


class Checked(Figures):
    """What ``vigil data check`` found."""

    rows: int
    sides: dict[str, int]
    findings: tuple[Finding, ...]

    @property
    def leaks(self) -> int:
        """How many findings refuse the manifest."""
        return sum(finding.leak for finding in self.findings)


def check(
    manifests: Sequence[tuple[Path, Sequence[ManifestRow]]],
    *,
    split_seed: int,
    validation_fraction: float,
    pictures: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Checked:
    """Look for leaks in one manifest or between several.

    Parameters
    ----------
    manifests
        Each file with its rows as :func:`read_manifest` gave them: what it refuses is not here.
    split_seed, validation_fraction
        How the run will draw validation patients where the manifest fixes no side.
    pictures
        Whether the pictures are read and compared; without, copies are not found.
    progress
        Called with the pictures read and their total.
    """
    rows = [(path.name, row) for path, own in manifests for row in own]
    sides = [side_of_row(row, split_seed, validation_fraction) for _, row in rows]
    findings = [
        *_patients(rows, sides),
        *_listed_twice(rows, sides),
        *_mixed_splits(rows),
        *_overlaps(rows, sides),
        *_one_sided(rows),
    ]
    if pictures:
        looks = look_at_all([row.path for _, row in rows], progress)
        findings += [*_broken(rows, looks), *_copies(rows, sides, looks)]
    return Checked(
        rows=len(rows), sides=dict(sorted(Counter(sides).items())), findings=tuple(findings)
    )


_Rows = Sequence[tuple[str, ManifestRow]]


def _where(rows: _Rows, places: Sequence[int]) -> tuple[str, ...]:
    return tuple(f"{rows[place][0]}, row {rows[place][1].number}" for place in places[:_SHOWN])


def _patients(rows: _Rows, sides: Sequence[str]) -> Iterator[Finding]:
    seen: dict[tuple[str, str], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for place, (_, row) in enumerate(rows):
        seen[row.source, row.patient_id][sides[place]].append(place)
    for (source, patient), places in seen.items():
        if len(places) > 1:
            yield Finding(
                leak=True,
                kind="patients",
                what=f"patient {patient} of {source} is on the sides {', '.join(sorted(places))}",
                rows=_where(rows, [own[0] for own in places.values()]),
                count=sum(map(len, places.values())),
                advice="give all films of a patient one split",
            )


def _listed_twice(rows: _Rows, sides: Sequence[str]) -> Iterator[Finding]:
    """A picture may stand in two manifests; on two sides it leaks."""
    seen: dict[Path, list[int]] = defaultdict(list)
    for place, (_, row) in enumerate(rows):
        seen[row.path.resolve()].append(place)
    for path, places in seen.items():
        if len(places) > 1:
            apart = len({sides[place] for place in places}) > 1
            yield Finding(
                leak=apart,
                kind="copies",
                what=f"{path.name} is listed {len(places)} times"
                + (", on two sides" if apart else ""),
                rows=_where(rows, places),
                count=len(places),
                advice="keep one row of it",
            )


def _mixed_splits(rows: _Rows) -> Iterator[Finding]:
    """A source with an official split that only some of its rows carry."""
    given: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for place, (_, row) in enumerate(rows):
        given[row.source][row.split or "none"].append(place)
    for source, places in given.items():
        splits = set(places)
        first = [own[0] for own in places.values()]
        films = sum(map(len, places.values()))
        if splits == {"none"} and source in _OFFICIAL:
            yield Finding(
                leak=False,
                kind="splits",
                what=f"{source} has an official split, which these rows do not carry",
                rows=_where(rows, places["none"]),
                count=films,
                advice="import it anew with `vigil data import`; figures on these rows cannot be "
                "compared with published ones, and a model trained elsewhere on the official "
                "training part may know them",
            )
        elif "none" in splits and len(splits) > 1 and splits != {"none", "test"}:
            yield Finding(
                leak=True,
                kind="splits",
                what=f"{source} mixes a fixed split ({', '.join(sorted(splits - {'none'}))}) with "
                "rows that would be drawn at random",
                rows=_where(rows, first),
                count=films,
                advice="give every row of the source its split, or none",
            )
        elif splits == {"none", "test"} and source in _OFFICIAL - _WITH_TEST_PART:
            yield Finding(
                leak=True,
                kind="splits",
                what=f"{source} has an official validation part, but its training rows are open",
                rows=_where(rows, first),
                count=films,
                advice="import it anew with `vigil data import`",
            )


def _overlaps(rows: _Rows, sides: Sequence[str]) -> Iterator[Finding]:
    by_name: dict[str, list[int]] = defaultdict(list)
    for place, (_, row) in enumerate(rows):
        by_name[row.source.removesuffix("-own-split")].append(place)
    for pair, why in OVERLAPS:
        one, other = (by_name.get(name, []) for name in pair)
        if not one or not other or len({sides[place] for place in (*one, *other)}) == 1:
            continue
        yield Finding(
            leak=True,
            kind="overlap",
            what=f"{' and '.join(pair)} share films ({why}) and are split apart",
            rows=_where(rows, [one[0], other[0]]),
            count=len(one) + len(other),
            advice="take one of them, or leave the films of one out of the other",
        )


def _one_sided(rows: _Rows) -> Iterator[Finding]:
    """A label of which a source has only positives, or only negatives, teaches the hospital."""
    known: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, (_, row) in enumerate(rows):
        for label in row.label_scope:
            known[row.source, label].append(place)
    for source in sorted({source for source, _ in known}):
        labels = sorted(
            label
            for (other, label), places in known.items()
            if other == source and all(label in rows[place][1].labels for place in places)
        )
        if labels:
            places = sorted({place for label in labels for place in known[source, label]})
            yield Finding(
                leak=False,
                kind="one class",
                what=f"every film of {source} that is known for {_or(labels)} has it",
                rows=_where(rows, places),
                count=len(places),
                advice="a network would learn the hospital: add films of the same source without "
                "it; runs leave such a label of such a source out",
            )


def _or(names: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _broken(rows: _Rows, looks: Looks) -> Iterator[Finding]:
    if looks.broken:
        reasons = Counter(reason for reason in looks.broken.values())
        yield Finding(
            leak=False,
            kind="pictures",
            what=f"pictures that cannot be read: {len(looks.broken)} ("
            + "; ".join(f"{reason}: {count}" for reason, count in reasons.most_common(3))
            + ")",
            rows=_where(rows, sorted(looks.broken)),
            count=len(looks.broken),
            advice="fetch them anew, or take their rows out",
        )


def _copies(rows: _Rows, sides: Sequence[str], looks: Looks) -> Iterator[Finding]:
    train = [place for place, side in enumerate(sides) if side == "train"]
    val = [place for place, side in enumerate(sides) if side == "val"]
    test = [place for place, side in enumerate(sides) if side == "test"]
    for one, other in ((train, [*val, *test]), (val, test)):
        for copy in copies(looks, (one, other)):
            names = [f"{rows[place][1].source} {sides[place]}" for place in copy[:2]]
            yield Finding(
                leak=True,
                kind="copies",
                what=f"the same film on two sides: {names[0]} and {names[1]} (alike "
                f"{copy.correlation:.2f})",
                rows=_where(rows, copy[:2]),
                count=2,
                advice="leave the training one out, or give both one split",
            )
