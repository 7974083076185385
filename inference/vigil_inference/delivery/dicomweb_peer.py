"""A DICOMweb server: STOW-RS, proved by QIDO-RS (DICOM PS3.18 sections 10.5 and 10.6)."""

import base64
import uuid
from pathlib import Path

import httpx
from pydicom import Dataset

from vigil_inference.delivery.destinations import DicomWebDestination
from vigil_inference.delivery.ledger import Parcel
from vigil_inference.delivery.peers import (
    Answer,
    Verdict,
    judge_dimse_status,
    judge_http_status,
    no_connection,
    server_name,
)

_JSON = "application/dicom+json"
_BAD_REQUEST, _CONFLICT, _NO_CONTENT, _NOT_FOUND = 400, 409, 204, 404


class DicomWebPeer:
    """A destination that speaks DICOMweb.

    Parameters
    ----------
    destination
        Its settings.
    data_dir
        What the parcels' paths are relative to.
    """

    def __init__(self, destination: DicomWebDestination, data_dir: Path) -> None:
        self._destination = destination
        self._data_dir = data_dir
        self._client: httpx.Client | None = None

    def send(self, parcel: Parcel) -> Answer:
        """Send an object by STOW-RS, byte by byte as it is kept."""
        boundary = uuid.uuid4().hex
        body = b"".join(
            (
                f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode(),
                (self._data_dir / parcel.file_path).read_bytes(),
                f"\r\n--{boundary}--\r\n".encode(),
            )
        )
        media_type = f'multipart/related; type="application/dicom"; boundary={boundary}'
        try:
            response = self._open().post(
                f"{self._destination.url}/studies/{parcel.study_instance_uid}",
                content=body,
                headers={"Content-Type": media_type, "Accept": _JSON, **self._authorization()},
                extensions=server_name(self._destination.tls),
            )
        except (httpx.HTTPError, OSError) as error:
            return self._give_up(error)
        return judge_store_response(response, parcel.sop_instance_uid)

    def prove(self, parcel: Parcel) -> Answer:
        """Ask by QIDO-RS whether the object is held."""
        path = f"studies/{parcel.study_instance_uid}/series/{parcel.series_instance_uid}/instances"
        try:
            response = self._open().get(
                f"{self._destination.url}/{path}",
                params={"SOPInstanceUID": parcel.sop_instance_uid},
                headers={"Accept": _JSON, **self._authorization()},
                extensions=server_name(self._destination.tls),
            )
        except (httpx.HTTPError, OSError) as error:
            return self._give_up(error)
        if response.is_success and response.status_code != _NO_CONTENT:
            if _lists(response, parcel.sop_instance_uid):
                return Answer(Verdict.HELD, "QIDO", "QIDO-RS found it at the destination")
        elif response.status_code not in (_NO_CONTENT, _NOT_FOUND):
            reason = f"the destination answered QIDO-RS with {response.status_code}"
            return Answer(Verdict.LATER, f"QIDO_{response.status_code}", reason)
        reason = "QIDO-RS does not find it at the destination"
        return Answer(Verdict.NOT_HELD, "QIDO_EMPTY", reason)

    def close(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _open(self) -> httpx.Client:
        if self._client is None:
            tls = self._destination.tls
            self._client = httpx.Client(
                verify=True if tls is None else tls.context(),
                timeout=self._destination.timeout_seconds,
                trust_env=False,
            )
        return self._client

    def _authorization(self) -> dict[str, str]:
        destination = self._destination
        if destination.token_file is not None:
            token = destination.token_file.read_text(encoding="ascii").strip()
            return {"Authorization": f"Bearer {token}"}
        if destination.password_file is not None:
            password = destination.password_file.read_text(encoding="utf-8").strip()
            pair = f"{destination.username}:{password}".encode()
            return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        return {}

    def _give_up(self, error: Exception) -> Answer:
        self.close()
        return no_connection(error)


def judge_store_response(response: httpx.Response, sop_instance_uid: str) -> Answer:
    """Return what a STOW-RS response says of the one object that was sent.

    DICOM PS3.18 10.5.3: 200 all stored, 202 some with warnings or failures, 409 none; the body
    says why, by the failure reasons of PS3.3 C.12.1.1.9, which are statuses of C-STORE.
    """
    status = response.status_code
    body = _body(response)
    if body is not None and (response.is_success or status in (_BAD_REQUEST, _CONFLICT)):
        failed = [i for i in body.get("FailedSOPSequence") or () if _is(i, sop_instance_uid)]
        if failed:
            reason = failed[0].get("FailureReason")
            if reason is None:
                return Answer(Verdict.REFUSED, f"HTTP_{status}", "the destination did not store it")
            judged = judge_dimse_status(int(reason))
            code = judged.code.replace("C_STORE", "STOW")
            if judged.verdict is Verdict.ACCEPTED and not judged.code.endswith("0111"):
                return Answer(Verdict.REFUSED, code, "the destination did not store it")
            return Answer(judged.verdict, code, judged.reason)
        for item in body.get("ReferencedSOPSequence") or ():
            warning = item.get("WarningReason")
            if _is(item, sop_instance_uid) and warning is not None and response.is_success:
                said = f"stored with Warning 0x{int(warning):04X}"
                return Answer(Verdict.ACCEPTED, f"STOW_{int(warning):04X}", said)
    return judge_http_status(status)


def _body(response: httpx.Response) -> Dataset | None:
    try:
        content = response.json()
        return Dataset.from_json(content[0] if isinstance(content, list) else content)
    except Exception:  # whatever a server says in another language than DICOM JSON
        return None


def _is(item: Dataset, sop_instance_uid: str) -> bool:
    return item.get("ReferencedSOPInstanceUID") in (None, "", sop_instance_uid)


def _lists(response: httpx.Response, sop_instance_uid: str) -> bool:
    try:
        found = [Dataset.from_json(item) for item in response.json()]
    except Exception:  # as above
        return False
    return any(item.get("SOPInstanceUID") == sop_instance_uid for item in found)
