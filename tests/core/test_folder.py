from pathlib import Path

from vigil.folder import pictures_in


def test_folders_are_searched_and_notes_left_out(tmp_path: Path) -> None:
    for name in ("b/2.dcm", "b/1", "README.md", ".hidden", "a.dcm"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = [str(path.relative_to(tmp_path)) for path in pictures_in([tmp_path])]
    assert found == ["a.dcm", "b/1", "b/2.dcm"]


def test_a_file_that_is_named_is_always_taken(tmp_path: Path) -> None:
    assert pictures_in([tmp_path / "README.md"]) == [tmp_path / "README.md"]
