"""What all tests share: phantoms, the real samples, a stand-in bundle, and the policy on skips.

A test whose peer or data is missing is skipped with a reason. The run ends by listing these, and
where ``CI`` is set to ``true`` they fail the run: there, nothing may be missing.
"""

import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stand_in import write_stand_in
from vigil.phantom import make_phantom
from vigil.phantom.dicom import write_dx

PROJECT = Path(__file__).parent.parent
DATA = Path(os.environ.get("VIGIL_DATA", PROJECT / "../shared/data"))
IS_CI = os.environ.get("CI", "").lower() == "true"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = defaultdict(list)
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[reason.removeprefix("Skipped: ")].append(report.nodeid)
    if not reasons:
        return
    terminalreporter.section("not run, and why")
    for reason, tests in sorted(reasons.items()):
        terminalreporter.line(f"{reason}:")
        for test in tests:
            terminalreporter.line(f"    {test}")
    if IS_CI:
        terminalreporter.line("CI=true, where nothing may be skipped: the run fails.", red=True)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if IS_CI and exitstatus == pytest.ExitCode.OK and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def dicom_samples() -> Path:
    """The folder of real radiographs and odd files."""
    folder = DATA / "dicom-samples"
    if not folder.is_dir():
        pytest.skip("the real samples are not beside the project (VIGIL_DATA names their folder)")
    return folder.resolve()


@pytest.fixture
def phantom_file(tmp_path: Path) -> Callable[..., Path]:
    """Write a phantom: ``phantom_file(seed, kind, size=(rows, columns), **write_dx arguments)``."""

    def write(
        seed: int, kind: str = "normal", *, size: tuple[int, int] = (512, 512), **arguments: object
    ) -> Path:
        number = len(list(tmp_path.glob("phantom-*.dcm")))
        path = tmp_path / f"phantom-{number:03d}-{seed}-{kind}.dcm"
        return write_dx(make_phantom(seed, kind, size), path, **arguments)

    return write


@pytest.fixture(scope="session")
def shipped_bundle() -> Path:
    """The bundle that the server loads by default."""
    bundles = sorted(path.parent for path in (PROJECT / "models").glob("*/bundle.json"))
    if not bundles:
        pytest.skip("no bundle is committed under models/ yet")
    return bundles[-1]


@pytest.fixture(scope="session")
def stand_in_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that tells effusion and large hearts in phantoms, and knows nothing else."""
    folder = tmp_path_factory.mktemp("bundle") / "stand-in"
    folder.mkdir()
    write_stand_in(folder)
    return folder
