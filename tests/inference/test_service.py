from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.inference.conftest import FakeModel
from vigil.cli import app
from vigil.errors import BundleError, StorageError
from vigil_inference.cli import register
from vigil_inference.service import Service
from vigil_inference.settings import Settings


def test_a_second_service_on_the_same_data_folder_is_refused(
    settings: Settings, model: FakeModel
) -> None:
    first, second = Service(settings, model), Service(settings, model)
    first.start()
    with pytest.raises(StorageError, match="in use by another Vigil service"):
        second.start()
    first.stop()
    second.start()
    second.stop()


def test_a_mistyped_bundle_on_the_command_line_is_named_before_a_door_opens(
    tmp_path: Path,
) -> None:
    register(app)
    result = CliRunner().invoke(app, ["serve", "--bundle", str(tmp_path / "modls")])
    assert isinstance(result.exception, BundleError)
    assert "modls: there is no bundle" in str(result.exception)
