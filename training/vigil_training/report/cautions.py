"""What must be known before a figure is believed: which rows, and what to do."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from vigil.errors import RefusalCode
from vigil.findings import NO_FINDING
from vigil_training.data_sets.check import Finding
from vigil_training.evaluate import Judged
from vigil_training.manifest import ManifestRow
from vigil_training.merits import Answer, scores_of
from vigil_training.report.comparison import learnt_rows
from vigil_training.report.contents import Caution
from vigil_training.report.findings import answers_of, counted, patients_of

FEW_PATIENTS = 30
_SHOWN = 5
_BROKEN = frozenset(
    {
        RefusalCode.FILE_UNREADABLE, RefusalCode.NOT_RADIOGRAPH, RefusalCode.NO_PIXELS,
        RefusalCode.MULTI_FRAME, RefusalCode.COLOUR, RefusalCode.TOO_SMALL, RefusalCode.TOO_LARGE,
        RefusalCode.TRANSFER_SYNTAX_UNSUPPORTED, RefusalCode.PIXELS_CORRUPT,
        RefusalCode.NO_CONTRAST, RefusalCode.INTERNAL_ERROR,
    }
)  # fmt: skip


def cautions_of(judged: Judged, checked: Sequence[Finding]) -> Iterator[Caution]:
    """Yield the cautions, the gravest first.

    Parameters
    ----------
    judged
        The answers.
    checked
        What `vigil data check` says of the evaluated rows.
    """
    answers = judged.answers
    rows = [answer.row for answer in answers]
    if learnt := learnt_rows(judged.manifest, rows):
        yield _caution(
            "films that the bundle was trained on are evaluated", learnt,
            "figures on them flatter; use --split val, or other films",
        )  # fmt: skip
    for finding in checked:
        if finding.leak:
            yield Caution(what=finding.what, count=finding.count, rows=finding.rows,
                          advice=finding.advice)  # fmt: skip
    if judged.split == "val" and not learnt:
        yield Caution(
            what="the same patients chose the shipped calibration and thresholds",
            count=len(rows), rows=(),
            advice="sensitivity and specificity at the shipped thresholds are optimistic on the "
            "sources that were learnt from; judge other films before a claim",
        )  # fmt: skip
    yield from _refused(answers)
    yield from _few(rows)
    yield from _one_class(answers)
    known = {finding.label for finding in judged.manifest.findings}
    strange: dict[str, list[ManifestRow]] = defaultdict(list)
    for row in rows:
        for label in row.label_scope - known - {NO_FINDING}:
            strange[label].append(row)
    for label, own in sorted(strange.items()):
        yield _caution(f"the label {label} is in scope, but the bundle has no finding for it", own,
                       "nothing is measured of it")  # fmt: skip
    if unknown := [row for row in rows if row.age_years is None]:
        yield _caution("the age is unknown", unknown,
                       "an adult or a child was assumed from the picture; add the age")  # fmt: skip
    if nobody := [row for row in rows if not row.sex]:
        yield _caution("the sex is unknown", nobody, "they count in no part by sex; add it")
    for finding in checked:
        # What has one class only is said above, of the labels that are evaluated.
        if not finding.leak and finding.kind != "one class":
            yield Caution(what=finding.what, count=finding.count, rows=finding.rows,
                          advice=finding.advice)  # fmt: skip


def _caution(what: str, rows: Sequence[ManifestRow], advice: str) -> Caution:
    shown = tuple(f"row {row.number} ({row.image_id})" for row in rows[:_SHOWN])
    return Caution(what=what, count=len(rows), rows=shown, advice=advice)


def _refused(answers: Sequence[Answer]) -> Iterator[Caution]:
    refused: dict[str, list[ManifestRow]] = defaultdict(list)
    for answer in answers:
        if answer.code is not None:
            refused[answer.code].append(answer.row)
    for code, rows in sorted(refused.items()):
        broken = code in _BROKEN
        yield _caution(
            f"{code}: pictures that cannot be read or are broken" if broken
            else f"{code}: pictures that the gate refused",
            rows,
            "mend or fetch them anew, or take their rows out" if broken
            else "look at them with `vigil triage`; a refused film counts in no other figure",
        )  # fmt: skip


def _few(rows: Sequence[ManifestRow]) -> Iterator[Caution]:
    for source in sorted({row.source for row in rows}):
        own = [row for row in rows if row.source == source]
        people = len({row.patient_id for row in own})
        if people < FEW_PATIENTS:
            yield _caution(
                f"{source}: only {counted(people, 'patient')}", own,
                f"intervals are wide, or figures are withheld; add films until there are "
                f"{FEW_PATIENTS} patients at the very least",
            )  # fmt: skip


def _one_class(answers: Sequence[Answer]) -> Iterator[Caution]:
    pairs = sorted({(label, a.row.source) for a in answers for label in a.row.label_scope})
    for label, source in pairs:
        own = answers_of(label, source, answers)
        if not own:
            continue
        ill, well = patients_of(scores_of(label, own))
        if 0 in (ill, well):
            yield _caution(
                f"{label}, {source}: every film {'lacks' if not ill else 'has'} it",
                [answer.row for answer in own],
                "nothing tells seeing it from seeing the hospital; add films of the other class",
            )
