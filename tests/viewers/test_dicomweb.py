"""OHIF lists and shows what Vigil holds, straight from Vigil's own DICOMweb.

Nothing that it asks for on the way may be answered with an error.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from tests.system.peers import HOST, Vigil
from tests.viewers.conftest import SCREENSHOTS
from tests.viewers.ohif import OhifServer, Reader
from vigil.phantom import make_phantom
from vigil.phantom.dicom import NAMES, make_uid, write_dx
from vigil_inference.sender import send

SYNTAXES = {
    "explicit": ExplicitVRLittleEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg-ls": JPEGLSLossless,
    "jpeg 2000": JPEG2000Lossless,
    "htj2k": HTJ2KLossless,
}
SIZE = (700, 600)


@pytest.fixture(scope="module")
def vigil(tmp_path_factory: pytest.TempPathFactory, stand_in_bundle: Path) -> Iterator[Vigil]:
    """A service that holds one study in each transfer syntax."""
    folder = tmp_path_factory.mktemp("vigil")
    paths = [
        write_dx(make_phantom(seed, "effusion", SIZE), folder / f"{seed}.dcm", transfer_syntax=uid)
        for seed, uid in enumerate(SYNTAXES.values())
    ]
    with Vigil(folder, stand_in_bundle).start() as vigil:
        sent = send(paths, HOST, vigil.dicom_port, calling_ae_title="XR1", called_ae_title="VIGIL")
        assert all(item.succeeded for item in list(sent))
        vigil.wait_for(len(paths))
        yield vigil


@pytest.fixture(scope="module")
def server(vigil: Vigil) -> Iterator[OhifServer]:
    with OhifServer(f"{vigil.url}/dicomweb") as server:
        yield server


@pytest.fixture
def reader(server: OhifServer, page: Page) -> Reader:
    return Reader(page, server, SCREENSHOTS / "vigil")


def test_ohif_lists_the_studies_with_their_names(reader: Reader):
    reader.list_studies()
    names = [name.replace("^", ", ") for name in NAMES[: len(SYNTAXES)]]
    reader.wait_for(*names, "X-quang ngực thẳng", "PHANTOM-000003", "A000003")
    reader.check("list")


@pytest.mark.parametrize("name", SYNTAXES)
def test_ohif_shows_a_picture_in_every_transfer_syntax(reader: Reader, name: str):
    seed = list(SYNTAXES).index(name)
    reader.open(make_uid("study", seed, "effusion"))
    low, high = reader.picture()
    assert high - low > 100
    reader.wait_for_thumbnails(1)
    reader.check(name)
