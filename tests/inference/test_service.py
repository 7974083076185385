import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.inference.conftest import FakeModel
from vigil.bundle import Calibration, OperatingPoint, load_bundle
from vigil.cli import app
from vigil.errors import BundleError, StorageError
from vigil.site_calibration import SiteCalibration, SiteFinding, write_site_calibration
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


def test_a_site_calibration_of_another_bundle_leaves_pictures_waiting_and_says_why(
    tmp_path: Path, stand_in_bundle: Path
) -> None:
    finding = SiteFinding(
        key="Effusion",
        calibration=Calibration(method="platt", slope=1.0, intercept=-1.0),
        flag=OperatingPoint(threshold=0.3),
        patients=300,
        positive_patients=60,
    )
    digest = load_bundle(stand_in_bundle).digest
    own = SiteCalibration(
        site="Phú Thọ", created="2026-11-25", software="0", bundle_id="stand-in",
        bundle_digest=digest, manifest="films.csv", findings=(finding,), notice="research",
    )  # fmt: skip
    path = tmp_path / "site.json"
    options = {
        "bundle": stand_in_bundle, "data_dir": tmp_path / "data", "dicom_port": 0,
        "dicom_host": "127.0.0.1", "model_retry_seconds": 0.1, "site_calibration": path,
    }  # fmt: skip
    write_site_calibration(path, own.model_copy(update={"bundle_digest": "a" * 64}))
    service = Service(Settings(**options))
    service.start()
    try:
        _until(lambda: "was made for bundle stand-in aaaaaaaaaaaa" in service.checks()["model"])
        write_site_calibration(path, own)  # it is looked at again, as a missing bundle is
        _until(lambda: service.checks()["model"] == "ok")
    finally:
        service.stop()


def _until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_start_loads_no_library_that_its_settings_do_not_ask_for(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "import vigil_inference.app, vigil_inference.cli\n"
        "from vigil_inference.service import Service\n"
        "from vigil_inference.settings import Settings\n"
        "Service(Settings(data_dir=Path(sys.argv[1])))\n"
        "print(*{'httpx', 'joserfc', 'markdown_it', 'psycopg', 'highdicom'} & set(sys.modules))\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == ""
