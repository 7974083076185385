"""What all tests share: phantoms, the real samples, a stand-in bundle, and the policy on skips.

A test whose peer or data is missing is skipped with a reason. The run ends by listing these, and
where ``CI`` is set to ``true`` they fail the run: there, nothing may be missing.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from vigil.bundle import (
    BundleManifest,
    Calibration,
    FindingSpec,
    ModelFile,
    OperatingPoint,
    Preprocessing,
    write_manifest,
)
from vigil.phantom import make_phantom
from vigil.phantom_dicom import write_dx
from vigil.preprocess import PreprocessingSpec, to_model_input

if TYPE_CHECKING:
    import onnx

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


STAND_IN_LABELS = ("Effusion", "Cardiomegaly")


def _stand_in_weights(size: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Fit (labels, cells, cells) weights and (labels,) offsets to phantoms, by ridge regression."""
    rows, targets = [], []
    for kind in ("normal", "effusion", "cardiomegaly", "opacity"):
        for seed in range(100, 116):
            phantom = make_phantom(seed, kind, (size, size))
            display = (phantom.pixels.astype(np.uint32) * 16).astype(np.uint16)
            image = to_model_input(display, PreprocessingSpec(size=size))[0, 0]
            side = size // cells
            grid = image.reshape(cells, side, cells, side).mean(axis=(1, 3))
            rows.append(np.append(grid.ravel(), 1.0))
            targets.append([4.0 if label in phantom.labels else -4.0 for label in STAND_IN_LABELS])
    design = np.array(rows)
    gram = design.T @ design + 3.0 * np.eye(design.shape[1])
    solution = np.linalg.solve(gram, design.T @ np.array(targets)).T
    return solution[:, :-1].reshape(-1, cells, cells), solution[:, -1]


@pytest.fixture(scope="session")
def stand_in_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a network of one layer, which knows phantoms: for tests of what is around it.

    It tells effusion and large hearts from the means of a 14 × 14 grid.
    """
    pytest.importorskip("onnx")
    size, cells = 224, 14
    content = _stand_in_network(size, cells).SerializeToString()
    folder = tmp_path_factory.mktemp("bundle") / "stand-in"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(content)
    finding = {
        "calibration": Calibration(method="none"),
        "flag": OperatingPoint(threshold=0.5),
        "critical": OperatingPoint(threshold=0.9),
    }
    write_manifest(
        folder,
        BundleManifest(
            id="stand-in",
            created="2026-01-05",
            description="Knows phantoms only; for tests.",
            architecture="one layer",
            model=ModelFile(file="model.onnx", sha256=hashlib.sha256(content).hexdigest()),
            preprocessing=Preprocessing(version=1, size=size),
            findings=tuple(
                FindingSpec(key=name, label=name, **finding) for name in STAND_IN_LABELS
            ),
            notice="Research use only, not a medical device",
        ),
    )
    return folder


def _stand_in_network(size: int, cells: int) -> "onnx.ModelProto":
    from onnx import TensorProto, helper, numpy_helper

    weights, offsets = _stand_in_weights(size, cells)
    count, side = len(offsets), size // cells
    constants = {
        "weights": weights[np.newaxis] * cells * cells,
        "offsets": offsets[np.newaxis, :, np.newaxis, np.newaxis],
        "calm": np.array(0.02),
    }
    nodes = [
        helper.make_node(
            "AveragePool", ["image"], ["grid"], kernel_shape=[side] * 2, strides=[side] * 2
        ),
        helper.make_node("Mul", ["grid", "weights"], ["weighted"]),
        helper.make_node("ReduceMean", ["weighted"], ["mean"], axes=[2, 3]),
        helper.make_node("Add", ["mean", "offsets"], ["logit"]),
        helper.make_node("Flatten", ["logit"], ["logits"]),
        # Cells alone are wild; a map that averages to the logit need not be.
        helper.make_node("Sub", ["weighted", "mean"], ["centred"]),
        helper.make_node("Mul", ["centred", "calm"], ["calmed"]),
        helper.make_node("Add", ["calmed", "logit"], ["cams"]),
        helper.make_node("Sigmoid", ["logits"], ["probabilities"]),
        helper.make_node("Flatten", ["grid"], ["embedding"]),
    ]
    outputs = {
        "logits": ["n", count],
        "probabilities": ["n", count],
        "cams": ["n", count, cells, cells],
        "embedding": ["n", cells * cells],
    }
    graph = helper.make_graph(
        nodes,
        "stand-in",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, size, size])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(v.astype(np.float32), n) for n, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
