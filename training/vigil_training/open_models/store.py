"""The local store of open models: one folder each, safetensors and a record with its SHA-256.

::

    $VIGIL_HOME/models/<name>/
        weights.safetensors     the weights, in torchvision's names
        record.json             what they are, where they came from, and their SHA-256
"""

import os
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vigil.errors import ConfigurationError
from vigil_training.open_models.registry import LICENCE, MODELS, OpenModel
from vigil_training.open_models.weights import (
    CheckedWeights,
    check_weights,
    read_weights,
    sha256_of,
    to_safetensors,
)

WEIGHTS_NAME = "weights.safetensors"
RECORD_NAME = "record.json"


class Record(BaseModel):
    """``record.json``: what a folder of the store holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    name: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    source_file: str
    source_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the file as it came: compare it with the one of whoever gave it to you."""
    imported: str
    licence: str = LICENCE


class ModelStore:
    """A folder of open models that were checked as they came in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def folder_of(self, model: OpenModel) -> Path:
        """Return where a model lies, or would lie."""
        return self.folder / model.name

    def holds(self, model: OpenModel) -> bool:
        """Return whether there is a record of this model."""
        return (self.folder_of(model) / RECORD_NAME).is_file()

    def held(self) -> tuple[OpenModel, ...]:
        """Return the models that are here, in the registry's order."""
        return tuple(model for model in MODELS.values() if self.holds(model))

    def add(self, file: Path, model: OpenModel, *, replace: bool = False) -> Record:
        """Check a weights file and keep its weights as safetensors.

        Parameters
        ----------
        file
            A file of ``torch.save``, as its authors publish it, or of safetensors.
        model
            What it should be.
        replace
            Whether weights that are already here make way.

        Raises
        ------
        ConfigurationError
            If the file is refused, or the model is here already; what was here stays.
        """
        if self.holds(model) and not replace:
            raise ConfigurationError(
                f"{model.name} is in {self.folder} already; remove it first or give --replace"
            )
        weights = check_weights(read_weights(file), model, str(file))
        source_sha256 = sha256_of(file)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.folder, prefix=".importing-") as scratch:
                written = Path(scratch) / model.name
                written.mkdir()
                (written / WEIGHTS_NAME).write_bytes(to_safetensors(weights))
                record = Record(
                    name=model.name,
                    sha256=sha256_of(written / WEIGHTS_NAME),
                    source_file=file.name,
                    source_sha256=source_sha256,
                    imported=datetime.now(UTC).isoformat(timespec="seconds"),
                )
                (written / RECORD_NAME).write_text(record.model_dump_json(indent=2) + "\n")
                if self.folder_of(model).exists():
                    self.folder_of(model).rename(Path(scratch) / "replaced")
                written.rename(self.folder_of(model))
        except OSError as error:
            raise ConfigurationError(f"{self.folder}: cannot be written ({error})") from error
        return record

    def record(self, model: OpenModel) -> Record:
        """Return a model's record.

        Raises
        ------
        ConfigurationError
            If the model is not here, or its record does not fit.
        """
        path = self.folder_of(model) / RECORD_NAME
        try:
            record = Record.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise ConfigurationError(
                f"{model.name} is not in {self.folder}; `vigil models pull {model.name}` fetches "
                f"it, and `vigil models import FILE --as {model.name}` takes a file carried in"
            ) from error
        except OSError as error:
            raise ConfigurationError(f"{path}: cannot be read ({error.strerror})") from error
        except ValidationError as error:
            raise ConfigurationError(f"{path}: {error.errors()[0]['msg']}") from error
        if record.name != model.name:
            raise ConfigurationError(f"{path}: expected {model.name}, found {record.name}")
        return record

    def load(self, model: OpenModel) -> CheckedWeights:
        """Return a model's weights after comparing their digest and shapes.

        Raises
        ------
        ConfigurationError
            If the model is not here or is not what was kept.
        """
        record = self.record(model)
        path = self.folder_of(model) / WEIGHTS_NAME
        try:
            found = sha256_of(path)
        except OSError as error:
            raise ConfigurationError(f"{path}: cannot be read ({error.strerror})") from error
        if found != record.sha256:
            raise ConfigurationError(
                f"{path}: the weights were altered: expected SHA-256 {record.sha256[:12]}…, "
                f"found {found[:12]}…"
            )
        return check_weights(read_weights(path), model, str(path))

    def remove(self, model: OpenModel) -> None:
        """Delete a model.

        Raises
        ------
        ConfigurationError
            If it is not here or cannot be deleted.
        """
        folder = self.folder_of(model)
        if not folder.is_dir():
            raise ConfigurationError(f"{model.name} is not in {self.folder}")
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise ConfigurationError(f"{folder}: cannot be deleted ({error.strerror})") from error


def default_store() -> ModelStore:
    """Return the store in ``$VIGIL_HOME/models``, else in the platform's folder for data."""
    home = os.environ.get("VIGIL_HOME")
    root = Path(home) if home else platformdirs.user_data_path("vigil", appauthor=False)
    return ModelStore(root / "models")
