"""The service's answers as a CSV file, so that a report is made again without the pictures.

One row a film: ``path`` (as in the manifest), ``bundle_digest``, what the gate said, and a column
``probability:KEY`` for each of the bundle's findings, empty where it was withheld.
"""

import csv
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from vigil.bundle import BundleManifest
from vigil.errors import ManifestError, RefusalCode
from vigil.triage import Priority
from vigil_training.manifest import ManifestRow, several
from vigil_training.merits import Answer

_PREFIX = "probability:"
_DICE = "dice:"
_COLUMNS = (
    "path", "bundle_digest", "code", "corrected", "priority", "flagged", "ratio", "no_ratio",
    f"{_DICE}lungs", f"{_DICE}heart",
)  # fmt: skip


def write_scores(
    path: Path, bundle: BundleManifest, answers: Sequence[Answer], folder: Path
) -> None:
    """Write answers; paths are relative to the manifest's folder.

    Raises
    ------
    ManifestError
        If the file cannot be written.
    """
    keys = [finding.key for finding in bundle.findings]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*_COLUMNS, *(_PREFIX + key for key in keys)])
            for answer in answers:
                said = {answer.keys[label]: p for label, p in answer.probabilities.items()}
                writer.writerow(
                    [
                        Path(os.path.relpath(answer.row.path, folder)).as_posix(), bundle.digest,
                        answer.code or "", int(answer.corrected), answer.priority,
                        "|".join(sorted(answer.flagged)), _cell(answer.ratio),
                        answer.no_ratio or "", _cell(answer.outlines.get("lungs")),
                        _cell(answer.outlines.get("heart")), *(_cell(said.get(k)) for k in keys),
                    ]
                )  # fmt: skip
    except OSError as error:
        raise ManifestError(f"{path}: cannot be written ({error.strerror})") from error


def _cell(value: float | None) -> str:
    return "" if value is None else repr(float(value))


def read_scores(
    path: Path, bundle: BundleManifest, rows: Sequence[ManifestRow], folder: Path
) -> tuple[Answer, ...]:
    """Read the answers for some rows of a manifest, in the rows' order.

    Raises
    ------
    ManifestError
        If the file is of another bundle, holds a path that the manifest does not or one twice, a
        score that is no number between 0 and 1, or no score for a row; the message names the rows.
    """
    known = {row.path.resolve(): row for row in rows}
    found: dict[Path, Answer] = {}
    wrong: list[str] = []
    for number, cells in _cells(path, bundle):
        try:
            picture = (folder / cells["path"]).resolve()
            if picture in found:
                raise ManifestError(f"{cells['path']} stands twice; keep one row of it")
            if cells["bundle_digest"] != bundle.digest:
                raise ManifestError(
                    f"scored by the bundle {cells['bundle_digest'][:12] or '(none)'}…, this one is "
                    f"{bundle.digest[:12]}…; judge the pictures with this bundle: name a new file"
                )
            if picture not in known:
                if not picture.is_file():
                    raise ManifestError(
                        f"{cells['path']} is not in the manifest; score this manifest's pictures"
                    )
                continue
            found[picture] = _answer(known[picture], cells, bundle)
        except ManifestError as error:
            wrong.append(f"{path}, row {number}: {error}")
    if wrong:
        raise ManifestError(several(wrong))
    if missing := [row.number for row in rows if row.path.resolve() not in found]:
        shown = ", ".join(str(number) for number in missing[:5])
        raise ManifestError(
            f"{path}: holds no score for {len(missing)} films of the manifest (row {shown}"
            f"{' …' if len(missing) > 5 else ''}); name a new file to judge all pictures"
        )
    return tuple(found[row.path.resolve()] for row in rows)


def _cells(path: Path, bundle: BundleManifest) -> list[tuple[int, dict[str, str]]]:
    needed = [*_COLUMNS, *(_PREFIX + finding.key for finding in bundle.findings)]
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names = reader.fieldnames or ()
            if "path" not in names or "bundle_digest" not in names:
                raise ManifestError(
                    f"{path}: is no file of scores: expected the columns path and bundle_digest, "
                    "as `vigil evaluate --scores NEW_FILE` writes them"
                )
            rows = [
                (reader.line_num, {k: (v or "").strip() for k, v in cells.items() if k})
                for cells in reader
            ]
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"{path}: is not a CSV file in UTF-8: {error}") from error
    # Another bundle's file lacks columns too; its digest says more.
    strangers = any(cells["bundle_digest"] != bundle.digest for _, cells in rows)
    missing = [name for name in needed if name not in names]
    if missing and not strangers:
        raise ManifestError(f"{path}: column missing: {', '.join(missing)}; name a new file")
    return rows


def _answer(row: ManifestRow, cells: Mapping[str, str], bundle: BundleManifest) -> Answer:
    probabilities, keys = {}, {}
    for finding in bundle.findings:
        cell = cells[_PREFIX + finding.key]
        if cell:
            probabilities[finding.label] = _number(f"the score of {finding.key}", cell, 0, 1)
            keys[finding.label] = finding.key
    code, priority = cells["code"], cells["priority"]
    if code and code not in RefusalCode.__members__:
        raise ManifestError(f"unknown code {code}; take the file as Vigil wrote it")
    if priority not in Priority.__members__:
        raise ManifestError(f"unknown priority {priority}; take the file as Vigil wrote it")
    if bool(code) == bool(probabilities):
        raise ManifestError(
            "a film has either a code or scores; judge it again with a new file of scores"
        )
    flagged = frozenset(filter(None, cells["flagged"].split("|")))
    if strange := sorted(flagged - set(probabilities)):
        raise ManifestError(f"{strange[0]} is flagged but has no score")
    drawn = {n: cell for n in ("lungs", "heart") if (cell := cells[_DICE + n])}
    ratio = cells["ratio"]
    return Answer(
        row=row,
        code=code or None,
        corrected=cells["corrected"] == "1",
        priority=priority,
        probabilities=probabilities,
        keys=keys,
        flagged=flagged,
        outlines={
            name: _number(f"dice:{name}", cell, 0, 1) for name, cell in drawn.items() if cell
        },
        ratio=_number("the ratio", ratio, 0, 2) if ratio else None,
        no_ratio=cells["no_ratio"] or None,
    )


def _number(name: str, cell: str, low: float, high: float) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not low <= value <= high:  # NaN is in no range
        raise ManifestError(
            f"{name} is {cell}, expected a number from {low} to {high}; judge this picture again "
            "with `vigil triage`, and leave it out or mend it"
        )
    return value
