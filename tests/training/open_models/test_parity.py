"""The bundle against torchxrayvision itself: the same file and weights, the same probabilities.

torchxrayvision reads PNG with ``utils.load_image`` (8 bits, the first channel) and DICOM with
``utils.read_xray_dcm``, whose default is the stored values over the range of the bits stored, with
MONOCHROME1 turned round; ``voi_lut=True`` applies the file's first window. Vigil always shows the
picture as the standard says, so it is compared with ``voi_lut=True``, which is the default's equal
where the window is the whole range. A file without a window is where the two differ: Vigil sets one
from the pixels' percentiles, torchxrayvision none.
"""

import warnings
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch

from vigil.phantom import MAX_STORED_VALUE, Phantom, make_phantom
from vigil.phantom.dicom import write_dx
from vigil.preprocess import to_model_input
from vigil.reading import read_radiograph
from vigil.triager import Triager
from vigil_training.open_models.convert import Converted, convert, vigil_label
from vigil_training.open_models.registry import find_model
from vigil_training.open_models.store import ModelStore

AGREE = 1e-3
DENSENET, RESNET = find_model("densenet121-res224-all"), find_model("resnet50-res512-all")
_FILMS = {
    "square": make_phantom(0, "normal", (700, 700)),
    "tall": make_phantom(1, "effusion", (800, 640)),
    "wide": make_phantom(2, "cardiomegaly", (501, 650)),
    "small": make_phantom(3, "opacity", (200, 190)),
}


class Reference:
    """torchxrayvision's own way from a file to probabilities, without ``op_norm``."""

    def __init__(self, xrv: ModuleType, name: str, folder: Path) -> None:
        self.xrv = xrv
        self.size = find_model(name).size
        self.network = xrv.models.get_model(name, cache_dir=str(folder))
        self.operating_points = self.network.op_threshs
        self.network.op_threshs, self.network.apply_sigmoid = None, True

    def input(self, path: Path, *, engine: str = "skimage", voi_lut: bool = True) -> np.ndarray:
        if path.suffix == ".dcm":
            with warnings.catch_warnings():  # it warns of MONOCHROME1
                warnings.simplefilter("ignore")
                image = self.xrv.utils.read_xray_dcm(path, voi_lut=voi_lut)[np.newaxis]
        else:
            image = self.xrv.utils.load_image(path)
        cropped = self.xrv.datasets.XRayCenterCrop()(image)
        return self.xrv.datasets.XRayResizer(self.size, engine=engine)(cropped)

    def probabilities(self, image: np.ndarray) -> dict[str, float]:
        with torch.no_grad():
            values = self.network(torch.from_numpy(image)[None])[0]
        labels = map(vigil_label, self.network.pathologies)
        return dict(zip(labels, values.tolist(), strict=True))


@pytest.fixture(scope="module")
def reference(xrv: ModuleType, densenet_file: Path) -> Reference:
    return Reference(xrv, DENSENET.name, densenet_file.parent)


@pytest.fixture(scope="module")
def triager(converted: Converted) -> Triager:
    return Triager.load(converted.folder, threads=1)


def _write(phantom: Phantom, path: Path) -> Path:
    """Write a phantom as an 8-bit PNG, which is what torchxrayvision's reader takes."""
    grey = np.rint(phantom.pixels / MAX_STORED_VALUE * 255).astype(np.uint8)
    path.write_bytes(cv2.imencode(".png", grey)[1].tobytes())
    return path


def _difference(triager: Triager, reference: Reference, path: Path) -> float:
    result = triager.triage(path)
    assert result.status == "analysed", result.reason
    expected = reference.probabilities(reference.input(path))
    assert result.findings
    return max(abs(found - expected[label]) for label, found in result.findings.items())


@pytest.mark.parametrize("film", _FILMS)
def test_a_png_scores_as_torchxrayvision_scores_it(
    triager: Triager, reference: Reference, tmp_path: Path, film: str
) -> None:
    path = _write(_FILMS[film], tmp_path / "film.png")
    assert _difference(triager, reference, path) < AGREE


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("window", [("2048", "4096"), ("1800", "2600")])
@pytest.mark.parametrize("film", ["square", "wide"])
def test_a_dicom_file_scores_as_torchxrayvision_scores_it_with_its_window(
    triager: Triager,
    reference: Reference,
    tmp_path: Path,
    film: str,
    window: tuple[str, str],
    photometric: str,
) -> None:
    center, width = window
    if photometric == "MONOCHROME1":
        center = str(MAX_STORED_VALUE + 1 - int(center))
    path = write_dx(
        _FILMS[film],
        tmp_path / "film.dcm",
        photometric=photometric,
        WindowCenter=center,
        WindowWidth=width,
    )
    assert _difference(triager, reference, path) < AGREE


def test_a_window_over_the_whole_range_scores_as_without_one_in_torchxrayvision(
    triager: Triager, reference: Reference, tmp_path: Path
) -> None:
    path = write_dx(_FILMS["tall"], tmp_path / "film.dcm")
    expected = reference.probabilities(reference.input(path, voi_lut=False))
    found = triager.triage(path).findings
    assert max(abs(found[label] - expected[label]) for label in found) < AGREE


def test_the_input_is_torchxrayvisions_to_a_ten_thousandth_of_its_range(
    triager: Triager, reference: Reference, tmp_path: Path
) -> None:
    for name, film in _FILMS.items():
        for path in (
            _write(film, tmp_path / f"{name}.png"),
            write_dx(film, tmp_path / f"{name}.dcm", WindowCenter="1800", WindowWidth="2600"),
        ):
            found = to_model_input(read_radiograph(path).pixels, triager.bundle.preprocessing)
            assert np.abs(found[0] - reference.input(path)).max() < 2048e-4


def test_the_comparison_can_fail(triager: Triager, reference: Reference, tmp_path: Path) -> None:
    # Films differ, and torchxrayvision's other reader and other resizer give other answers.
    films = [_write(film, tmp_path / f"{name}.png") for name, film in _FILMS.items()]
    findings = [list(triager.triage(path).findings.values()) for path in films]
    assert np.ptp(np.array(findings), axis=0).min() > 20 * AGREE
    path = write_dx(_FILMS["wide"], tmp_path / "f.dcm", WindowCenter="1800", WindowWidth="2600")
    usual = reference.probabilities(reference.input(path))
    for other in (reference.input(path, voi_lut=False), reference.input(path, engine="cv2")):
        changed = reference.probabilities(other)
        assert max(abs(changed[label] - usual[label]) for label in usual) > 2 * AGREE


def test_the_same_pictures_are_flagged_as_by_op_norm(
    triager: Triager, reference: Reference, xrv: ModuleType, tmp_path: Path
) -> None:
    points = {f.label: f.flag.threshold for f in triager.bundle.manifest.findings}
    labels = [vigil_label(label) for label in reference.network.pathologies]
    for name, film in _FILMS.items():
        path = _write(film, tmp_path / f"{name}.png")
        plain = reference.probabilities(reference.input(path))
        normalised = xrv.models.op_norm(
            torch.tensor([[plain[label] for label in labels]]), reference.operating_points
        )
        bent = dict(zip(labels, normalised[0].tolist(), strict=True))
        flagged = {flag.label for flag in triager.triage(path).flags}
        clear = {label for label in points if abs(plain[label] - points[label]) > AGREE}
        assert flagged & clear == {label for label in clear if bent[label] >= 0.5}


def test_what_is_cut_off_is_said_and_has_no_heat(triager: Triager, tmp_path: Path) -> None:
    wide = triager.triage(_write(make_phantom(2, "cardiomegaly", (400, 800)), tmp_path / "a.png"))
    assert "the model sees the central square only; 50% was not analysed" in wide.notes
    for heat in wide.maps.values():
        assert heat.shape == (32, 64)
        assert (heat[:, :16] == 0).all()
        assert (heat[:, 16:48] > 0).all()
        assert (heat[:, 48:] == 0).all()
    square = triager.triage(_write(_FILMS["square"], tmp_path / "b.png"))
    assert not any("central square" in note for note in square.notes)


@pytest.mark.slow
def test_the_resnet_scores_as_torchxrayvision_scores_it(
    xrv: ModuleType, resnet_file: Path, tmp_path: Path
) -> None:
    store = ModelStore(tmp_path / "store")
    store.add(resnet_file, RESNET)
    convert(RESNET, store, tmp_path / "bundle")
    triager = Triager.load(tmp_path / "bundle", threads=1)
    reference = Reference(xrv, RESNET.name, resnet_file.parent)
    films = (
        _write(_FILMS["tall"], tmp_path / "film.png"),
        write_dx(_FILMS["wide"], tmp_path / "f.dcm", WindowCenter="1800", WindowWidth="2600"),
    )
    for path in films:
        assert _difference(triager, reference, path) < AGREE
