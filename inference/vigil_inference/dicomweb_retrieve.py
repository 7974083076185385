"""WADO-RS: objects that are held, whole, as metadata and as frames.

(DICOM PS3.18 section 10.4.) An object comes as it was stored unless another transfer syntax is
asked for; the only one that Vigil makes is Explicit VR Little Endian, which is the default where
a client asks for `application/dicom` and names none.
"""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import UID, ExplicitVRLittleEndian
from python_multipart.multipart import parse_options_header
from sqlalchemy import select
from sqlalchemy.orm import joinedload

from vigil.elements import integer
from vigil.errors import VigilError
from vigil_inference.access.account import require
from vigil_inference.access.roles import Permission
from vigil_inference.dicomweb_query import MEDIA_TYPE, study_url
from vigil_inference.service import Service
from vigil_inference.tables import Instance, Study

_OCTETS = "application/octet-stream"
_DICOM = "application/dicom"
_INLINE_BYTES = 64 * 1024
_CHUNK_BYTES = 1024 * 1024
_LARGEST_DECODED_BYTES = 1024**3

router = APIRouter(
    prefix="/dicomweb",
    tags=["DICOMweb"],
    default_response_class=Response,
    dependencies=[Depends(require(Permission.SEE_PICTURES))],
)
STUDY = "/studies/{study_instance_uid}"
SERIES = STUDY + "/series/{series_instance_uid}"
INSTANCE = SERIES + "/instances/{sop_instance_uid}"


class ResourceUnknown(VigilError):
    """Nothing is held under these UIDs."""

    code = "RESOURCE_UNKNOWN"
    http_status = 404


class NotAcceptable(VigilError):
    """What is held cannot be given in the form that was asked for."""

    code = "NOT_ACCEPTABLE"
    http_status = 406


class ResourceGone(VigilError):
    """What was held was removed by rule; the message says when and by which."""

    code = "RESOURCE_GONE"
    http_status = 410


class RequestMalformed(VigilError):
    """A frame list or viewport that is none."""

    code = "REQUEST_INVALID"
    http_status = 400


@dataclass(frozen=True)
class Accepted:
    """One of the forms that a client takes.

    Attributes
    ----------
    media_type
        Of a part, where it is for a multipart answer.
    transfer_syntax_uid
        ``*`` for any, "" where none is named.
    is_multipart
        Whether a multipart answer was named.
    """

    media_type: str
    transfer_syntax_uid: str
    is_multipart: bool


@router.get(STUDY)
@router.get(SERIES)
@router.get(INSTANCE)
def retrieve(
    request: Request,
    study_instance_uid: str,
    series_instance_uid: str = "",
    sop_instance_uid: str = "",
) -> Response:
    """Return the objects of a study, a series, or one (WADO-RS)."""
    found = find_instances(request, study_instance_uid, series_instance_uid, sop_instance_uid)
    rows = held_still(found)
    # Some of what was asked for was removed by rule (PS3.2 table N.7-92).
    status = 200 if len(rows) == len(found) else 206
    accepted = [a for a in accepted_types(request) if a.media_type in (_DICOM, "*/*")]
    if not accepted:
        raise NotAcceptable(f"expected {_DICOM} to be acceptable")
    wanted = {a.transfer_syntax_uid or str(ExplicitVRLittleEndian) for a in accepted}
    if any(a.media_type == "*/*" for a in accepted):
        wanted.add("*")
    folder = service_of(request).settings.data_dir
    if len(rows) == 1 and not any(a.is_multipart or a.media_type == "*/*" for a in accepted):
        parts = _dicom_part(folder / rows[0].file_path, rows[0].transfer_syntax_uid, wanted)
        return StreamingResponse(parts, status, media_type=_DICOM)
    # What cannot be given is found out before the first byte has gone.
    for row in rows:
        _check_convertible(row, wanted)
    bodies = (
        (_DICOM, _dicom_part(folder / row.file_path, row.transfer_syntax_uid, wanted))
        for row in rows
    )
    return _multipart(_DICOM, bodies, status)


@router.get(STUDY + "/metadata")
@router.get(SERIES + "/metadata")
@router.get(INSTANCE + "/metadata")
def retrieve_metadata(
    request: Request,
    study_instance_uid: str,
    series_instance_uid: str = "",
    sop_instance_uid: str = "",
) -> Response:
    """Return all attributes but the bulk data, as DICOM JSON (WADO-RS)."""
    rows = find_instances(request, study_instance_uid, series_instance_uid, sop_instance_uid)
    return JSONResponse([_metadata(request, row) for row in rows], media_type=MEDIA_TYPE)


@router.get(INSTANCE + "/frames/{frames}")
def retrieve_frames(
    request: Request,
    study_instance_uid: str,
    series_instance_uid: str,
    sop_instance_uid: str,
    frames: str,
) -> Response:
    """Return frames, numbered from 1, as stored or decoded (WADO-RS)."""
    [row] = held_still(
        find_instances(request, study_instance_uid, series_instance_uid, sop_instance_uid)
    )
    try:
        numbers = [int(number) for number in frames.split(",")]
    except ValueError:
        raise RequestMalformed("expected frame numbers such as 1 or 1,2") from None
    dataset = _read(service_of(request).settings.data_dir / row.file_path)
    if "PixelData" not in dataset:
        raise NotAcceptable("the object holds no pixel data")
    count = _frame_count(dataset)
    if not all(1 <= number <= count for number in numbers):
        raise ResourceUnknown(f"the object holds {count} frames")
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    media_type = _frame_media_type(accepted_types(request), UID(syntax))
    if media_type is None:
        syntax, media_type = str(ExplicitVRLittleEndian), _OCTETS
        _decode(dataset)
    described = f"{media_type}; transfer-syntax={syntax}"
    content = _frames(dataset, UID(syntax), count)
    return _multipart(media_type, ((described, [content[number - 1]]) for number in numbers))


def service_of(request: Request) -> Service:
    """Return the running service."""
    service: Service = request.app.state.service
    return service


def find_instances(request: Request, study: str, series: str, instance: str) -> Sequence[Instance]:
    """Return what is held of a study, a series or an instance, the first received first.

    Raises
    ------
    ResourceUnknown
        If it is nothing.
    """
    query = (
        select(Instance)
        .join(Study)
        .options(joinedload(Instance.study))
        .where(Study.study_instance_uid == study, Instance.series_instance_uid != "")
        .order_by(Instance.id)
    )
    if series:
        query = query.where(Instance.series_instance_uid == series)
    if instance:
        query = query.where(Instance.sop_instance_uid == instance)
    with service_of(request).store.reading() as session:
        rows = session.scalars(query).all()
    if not rows:
        raise ResourceUnknown("nothing is held under these UIDs")
    return rows


def held_still(rows: Sequence[Instance]) -> list[Instance]:
    """Return those whose pixels are held still."""
    held = [row for row in rows if row.removed_at is None]
    if not held:
        gone = rows[0]
        when = f"{gone.removed_at:%Y-%m-%d}"
        raise ResourceGone(f"the original was removed on {when}: {gone.removal_reason}")
    return held


def accepted_types(request: Request) -> list[Accepted]:
    """Return what a client accepts; nothing said accepts all (RFC 9110 section 12.5.1)."""
    header = request.query_params.get("accept") or request.headers.get("accept") or "*/*"
    accepted = []
    for part in header.split(","):
        kind, options = parse_options_header(part.strip())
        text = {name.decode().lower(): value.decode("latin-1") for name, value in options.items()}
        is_multipart = kind.lower() == b"multipart/related"
        media_type = text.get("type", "*/*") if is_multipart else kind.decode("latin-1")
        accepted.append(Accepted(media_type.lower(), text.get("transfer-syntax", ""), is_multipart))
    return accepted


def _read(path: Path) -> Dataset:
    try:
        return pydicom.dcmread(path, force=True)
    except Exception as error:  # pydicom's parser raises whatever a damaged file makes it meet
        raise NotAcceptable(f"the object cannot be read ({type(error).__name__})") from error


def _check_convertible(row: Instance, wanted: set[str]) -> None:
    if not wanted & {"*", row.transfer_syntax_uid, str(ExplicitVRLittleEndian)}:
        raise NotAcceptable(f"the object is held in {UID(row.transfer_syntax_uid).name}")


def _dicom_part(path: Path, syntax: str, wanted: set[str]) -> Iterable[bytes]:
    if wanted & {"*", syntax}:
        return _chunks(path)
    if str(ExplicitVRLittleEndian) not in wanted:
        raise NotAcceptable(f"the object is held in {UID(syntax).name}")
    dataset = _read(path)
    _decode(dataset)
    buffer = BytesIO()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(buffer, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return [buffer.getvalue()]


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _decode(dataset: Dataset) -> None:
    """Turn a data set's pixel data into native little endian, in place."""
    syntax = dataset.file_meta.TransferSyntaxUID
    size = _frame_count(dataset) * max(1, integer(dataset, "SamplesPerPixel"))
    for keyword in ("Rows", "Columns", "BitsAllocated"):
        size *= integer(dataset, keyword)
    if size // 8 > _LARGEST_DECODED_BYTES:
        raise NotAcceptable("the object is too large to be decoded")
    try:
        if syntax.is_compressed and not syntax.is_deflated:
            dataset.decompress(as_rgb=False)
        elif not syntax.is_little_endian and "PixelData" in dataset:
            little = dataset.pixel_array.astype(dataset.pixel_array.dtype.newbyteorder("<"))
            dataset.PixelData = little.tobytes()
    except Exception as error:  # decoders raise whatever a damaged picture makes them meet
        raise NotAcceptable(f"the picture cannot be decoded ({type(error).__name__})") from error


def _frame_count(dataset: Dataset) -> int:
    return max(1, integer(dataset, "NumberOfFrames"))


def _frames(dataset: Dataset, syntax: UID, count: int) -> list[bytes]:
    content = bytes(dataset.PixelData)
    try:
        if syntax.is_encapsulated:
            return list(generate_frames(content, number_of_frames=count))
        bits = dataset.Rows * dataset.Columns * max(1, integer(dataset, "SamplesPerPixel"))
        length = bits * dataset.BitsAllocated // 8
    except Exception as error:  # pydicom's parser raises whatever damaged pixels make it meet
        raise NotAcceptable(f"the frames cannot be told apart ({type(error).__name__})") from error
    return [content[n * length : (n + 1) * length] for n in range(count)]


def _frame_media_type(accepted: list[Accepted], syntax: UID) -> str | None:
    """Return as what frames are sent in their own transfer syntax; None if they are decoded."""
    own = IMAGE_TYPES.get(str(syntax), _OCTETS)
    plain = not syntax.is_encapsulated and syntax.is_little_endian
    for wish in accepted:
        named = wish.transfer_syntax_uid
        if wish.media_type == "*/*":
            return own
        if wish.media_type == _OCTETS and (plain or named in ("*", str(syntax))):
            return _OCTETS
        if wish.media_type in (own, "image/*") and own != _OCTETS:
            return own
    if not any(wish.media_type == _OCTETS for wish in accepted):
        raise NotAcceptable(f"the frames are held as {own}, expected that or {_OCTETS}")
    if not any(
        wish.transfer_syntax_uid in ("", "*", str(ExplicitVRLittleEndian))
        for wish in accepted
        if wish.media_type == _OCTETS
    ):
        raise NotAcceptable(f"the frames are held in {syntax.name}")
    return None


# DICOM PS3.18 table 8.7.3-5.
IMAGE_TYPES = {
    "1.2.840.10008.1.2.5": "image/dicom-rle",
    "1.2.840.10008.1.2.4.50": "image/jpeg",
    "1.2.840.10008.1.2.4.51": "image/jpeg",
    "1.2.840.10008.1.2.4.57": "image/jpeg",
    "1.2.840.10008.1.2.4.70": "image/jpeg",
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.4.201": "image/jphc",
    "1.2.840.10008.1.2.4.202": "image/jphc",
    "1.2.840.10008.1.2.4.203": "image/jphc",
}


def _metadata(request: Request, row: Instance) -> dict[str, Any]:
    study = study_url(request, row.study.study_instance_uid)
    url = f"{study}/series/{row.series_instance_uid}/instances/{row.sop_instance_uid}"
    path = service_of(request).settings.data_dir / row.file_path
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    except Exception as error:  # pydicom's parser raises whatever a damaged file makes it meet
        raise NotAcceptable(f"the object cannot be read ({type(error).__name__})") from error
    # Long binary values are left out: frames have an address of their own, curves have no reader.
    for element in [e for e in dataset if isinstance(e.value, bytes)]:
        if len(element.value) > _INLINE_BYTES:
            del dataset[element.tag]
    metadata: dict[str, Any] = dataset.to_json_dict(suppress_invalid_tags=True)
    metadata["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    metadata["00083002"] = {"vr": "UI", "Value": [row.transfer_syntax_uid]}
    if "Rows" in dataset and row.removed_at is None:
        metadata["7FE00010"] = {"vr": "OW", "BulkDataURI": f"{url}/frames/1"}
    return metadata


def _multipart(
    media_type: str, parts: Iterable[tuple[str, Iterable[bytes]]], status: int = 200
) -> Response:
    boundary = uuid.uuid4().hex

    def body() -> Iterator[bytes]:
        for described, content in parts:
            yield f"--{boundary}\r\nContent-Type: {described}\r\n\r\n".encode()
            yield from content
            yield b"\r\n"
        yield f"--{boundary}--\r\n".encode()

    kind = f'multipart/related; type="{media_type}"; boundary={boundary}'
    return StreamingResponse(body(), status, media_type=kind)
