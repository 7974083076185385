"""Whatever a client sends that the OpenAPI document allows, or nearly, is no server error."""

import contextlib
from collections.abc import Iterator
from unittest import SkipTest

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.schemas import OpenApiSchema

from tests.inference.conftest import FakeModel, make_dataset, serving
from vigil_inference.access.roles import Role
from vigil_inference.app import create_app
from vigil_inference.service import Service
from vigil_inference.settings import Settings

pytestmark = pytest.mark.slow
BOUNDED = settings(
    max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
MULTIPART = 'multipart/related; type="application/dicom"; boundary=B'


@pytest.fixture(scope="module")
def interface(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OpenApiSchema, str]]:
    """A service that holds a study, as its OpenAPI document describes it."""
    folder = tmp_path_factory.mktemp("interface")
    given = Settings(
        data_dir=folder / "var", dicom_host="127.0.0.1", dicom_port=0, storage_reserve_bytes=0
    )
    service = Service(given, FakeModel())
    token = service.access.tokens.create("everything", set(Role), None)
    with serving(given, service) as client:
        client.headers["Authorization"] = f"Bearer {token}"
        path = folder / "film.dcm"
        make_dataset(ImageComments="0.95").save_as(path, enforce_file_format=True)
        body = b"--B\r\nContent-Type: application/dicom\r\n\r\n" + path.read_bytes() + b"\r\n--B--"
        sent = client.post("/dicomweb/studies", content=body, headers={"Content-Type": MULTIPART})
        assert sent.status_code == 200
        schema = schemathesis.openapi.from_url(
            f"{client.base_url}/openapi.json", headers=dict(client.headers)
        )
        yield schema, f"Bearer {token}"


OPERATIONS = [
    (path, method.upper())
    for path, methods in create_app(Settings()).openapi()["paths"].items()
    for method in methods
    if path != "/api/events"  # a stream of events ends when its reader leaves
]


@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=" ".join)
def test_no_request_is_a_server_error(
    interface: tuple[OpenApiSchema, str], path: str, method: str
) -> None:
    schema, authorization = interface
    operation = schema[path][method]

    @given(case=operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    @BOUNDED
    def nearly_allowed(case: Case) -> None:
        check(case)

    @given(case=operation.as_strategy())
    @BOUNDED
    def allowed(case: Case) -> None:
        check(case)

    def check(case: Case) -> None:
        answer = case.call(headers={"Authorization": authorization})
        assert answer.status_code < 500, (case.as_curl_command(), answer.text[:500])
        if not path.startswith(("/api/session", "/api/oidc/")):  # it got past the gate
            assert answer.status_code != 401

    allowed()
    with contextlib.suppress(Unsatisfiable, SkipTest):  # some operations cannot be asked wrongly
        nearly_allowed()
