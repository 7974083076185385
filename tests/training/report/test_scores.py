from pathlib import Path

import pytest

from vigil.bundle import load_bundle
from vigil.errors import ManifestError
from vigil_training.evaluate import judge


@pytest.fixture
def scores(smoke_bundle: Path, phantom_manifest: Path, tmp_path: Path) -> Path:
    path = tmp_path / "kept" / "scores.csv"
    judge(smoke_bundle, phantom_manifest, scores=path)
    return path


def _mend(path: Path, place: int, column: str, value: str) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    cells = lines[place].split(",")
    cells[lines[0].split(",").index(column)] = value
    lines[place] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _column(path: Path) -> str:
    names = path.read_text(encoding="utf-8").splitlines()[0].split(",")
    return next(name for name in names if name.startswith("probability:"))


def _analysed(path: Path) -> int:
    """The place of the first film that has a score."""
    lines = path.read_text(encoding="utf-8").splitlines()
    code = lines[0].split(",").index("code")
    return next(i for i, line in enumerate(lines) if i and not line.split(",")[code])


def test_scores_that_were_written_come_back_as_the_same_answers_and_no_picture_is_read(
    smoke_bundle: Path, phantom_manifest: Path, scores: Path
) -> None:
    fresh = judge(smoke_bundle, phantom_manifest)
    shown = []
    again = judge(
        smoke_bundle, phantom_manifest, scores=scores, progress=lambda *done: shown.append(done)
    )
    assert shown == []
    assert again.answers == fresh.answers


@pytest.mark.parametrize("cell", ["nan", "1.2", "much"])
def test_a_score_that_is_no_number_is_refused_with_its_row(
    smoke_bundle: Path, phantom_manifest: Path, scores: Path, cell: str
) -> None:
    place = _analysed(scores)
    _mend(scores, place, _column(scores), cell)
    with pytest.raises(ManifestError, match=rf"row {place + 1}: the score of \w+ is {cell}"):
        judge(smoke_bundle, phantom_manifest, scores=scores)


def test_scores_of_another_bundle_are_refused(
    smoke_bundle: Path, phantom_manifest: Path, scores: Path
) -> None:
    _mend(scores, 2, "bundle_digest", "0" * 64)
    said = f"row 3: scored by the bundle 000000000000…, this one is {_digest(smoke_bundle)}"
    with pytest.raises(ManifestError, match=said):
        judge(smoke_bundle, phantom_manifest, scores=scores)


def _digest(bundle: Path) -> str:
    return load_bundle(bundle).manifest.digest[:12]


def test_an_unknown_path_and_a_film_without_a_score_are_refused(
    smoke_bundle: Path, phantom_manifest: Path, scores: Path
) -> None:
    _mend(scores, 1, "path", "elsewhere.png")
    with pytest.raises(ManifestError, match=r"row 2: elsewhere\.png is not in the manifest"):
        judge(smoke_bundle, phantom_manifest, scores=scores)
    lines = scores.read_text(encoding="utf-8").splitlines()
    scores.write_text("\n".join([lines[0], *lines[3:]]) + "\n", encoding="utf-8")
    with pytest.raises(ManifestError, match=r"no score for 2 films of the manifest \(row 2, 3\)"):
        judge(smoke_bundle, phantom_manifest, scores=scores)


def test_a_file_with_other_columns_is_no_file_of_scores(
    smoke_bundle: Path, phantom_manifest: Path, tmp_path: Path
) -> None:
    path = tmp_path / "other.csv"
    path.write_text("film,score\n1,0.5\n", encoding="utf-8")
    with pytest.raises(ManifestError, match="expected the columns path and bundle_digest"):
        judge(smoke_bundle, phantom_manifest, scores=path)
