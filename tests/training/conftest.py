"""A smoke run and its bundle, made once for all tests of the training room."""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from vigil.phantom import make_phantom

CONFIGS = Path(__file__).parents[2] / "training" / "configs"
COLUMNS = (
    "path", "source", "patient_id", "image_id", "view", "age", "sex", "labels", "label_scope",
    "boxes", "original_width", "original_height",
)  # fmt: skip

WriteManifest = Callable[[Sequence[Mapping[str, str]]], Path]


@pytest.fixture
def write_manifest(tmp_path: Path) -> WriteManifest:
    """Writes a manifest; a row says what differs from a plain adult's film."""

    def write(rows: Sequence[Mapping[str, str]], columns: Sequence[str] = COLUMNS) -> Path:
        path = tmp_path / "manifest.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            for number, row in enumerate(rows):
                name = row.get("path", f"{number}.png")
                if "missing" not in name:
                    (tmp_path / name).touch()
                plain = {
                    "path": name, "source": "nih", "patient_id": f"p{number}",
                    "image_id": str(number), "view": "PA", "age": "50", "sex": "F",
                    "labels": "", "label_scope": "Effusion", "boxes": "[]",
                }  # fmt: skip
                writer.writerow({**plain, **row})
        return path

    return write


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of smoke.toml."""
    from vigil_training.train import train

    out = tmp_path_factory.mktemp("runs") / "smoke"
    train(CONFIGS / "smoke.toml", None, out)
    return out


@pytest.fixture(scope="session")
def smoke_bundle(smoke_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the smoke run."""
    from vigil_training.export import export

    folder = tmp_path_factory.mktemp("models") / "smoke"
    export(smoke_run, None, folder, samples=50)
    return folder


@pytest.fixture(scope="session")
def phantom_manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of 24 phantoms as PNG files, half of them with an effusion."""
    folder = tmp_path_factory.mktemp("phantoms")
    rows = []
    for number in range(24):
        kind = "effusion" if number % 2 else "normal"
        pixels = make_phantom(9000 + number, kind, (160, 160)).pixels
        cv2.imwrite(str(folder / f"{number}.png"), (pixels << 4).astype(np.uint16))
        rows.append(
            {
                "path": f"{number}.png",
                "source": "phantom",
                "patient_id": f"p{number}",
                "image_id": str(number),
                "view": "PA",
                "age": "40",
                "sex": "F",
                "labels": "Effusion" if number % 2 else "",
                "label_scope": "Effusion",
                "boxes": "[]",
            }
        )
    path = folder / "manifest.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path
