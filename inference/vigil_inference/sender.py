"""A C-STORE service class user: sends files as they are, in their own transfer syntax."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config, build_context
from pynetdicom.status import code_to_category

from vigil.errors import ConfigurationError
from vigil_inference.dicom_responses import keep_responses

_MOST_CONTEXTS = 128
_TIMEOUT_SECONDS = 60.0
_UID_ATTRIBUTES = ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID")
# (implicit VR, little endian), as pydicom found them.
_SYNTAXES: dict[tuple[bool | None, bool | None], UID] = {
    (True, True): ImplicitVRLittleEndian,
    (False, True): ExplicitVRLittleEndian,
    (False, False): ExplicitVRBigEndian,
}


@dataclass(frozen=True)
class Sent:
    """What became of one file."""

    path: Path
    succeeded: bool
    message: str


@dataclass(frozen=True)
class _Outgoing:
    path: Path
    sop_class_uid: str
    transfer_syntax_uid: str
    dataset: Dataset | None = None
    """Only of a file without file meta information: others are sent byte by byte."""


def parse_peer(text: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``.

    Raises
    ------
    ConfigurationError
        If it is not of that form.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigurationError(f"{text}: expected HOST:PORT, such as 127.0.0.1:11112")
    return host.strip("[]"), int(port)


def send(
    paths: Sequence[Path], host: str, port: int, *, calling_ae_title: str, called_ae_title: str
) -> Iterator[Sent]:
    """Send files and say of each what the peer answered.

    Where an association cannot be made, the first file that waits for it says so and the others
    are left out: they would all say the same, each after the whole timeout.

    Parameters
    ----------
    paths
        DICOM files.
    host, port
        The peer's address.
    calling_ae_title, called_ae_title
        Who sends, and who is meant to receive.
    """
    outgoing = []
    for path in paths:
        try:
            outgoing.append(_read_meta(path))
        except (OSError, ValueError) as error:
            yield Sent(path, False, f"not sent: {error}")
    peer = _Peer(host, port, calling_ae_title, called_ae_title)
    for group in _by_association(outgoing):
        rest = group
        while rest:
            answered = 0
            for sent in _send_group(rest, peer):
                yield sent
                answered += 1
            if not answered:
                yield Sent(rest[0].path, False, f"not sent: {peer.problem}")
                return
            rest = rest[answered:]


def _read_meta(path: Path) -> _Outgoing:
    with path.open("rb") as file:
        has_meta = file.read(132)[128:] == b"DICM"
    try:
        if has_meta:
            meta = read_file_meta_info(path)
            if all(meta.get(keyword) for keyword in _UID_ATTRIBUTES):
                if _names_another_object(path, meta.MediaStorageSOPInstanceUID):
                    return _read_bare(path)
                sop_class, syntax = meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID
                return _Outgoing(path, str(sop_class), str(syntax))
        return _read_bare(path)
    except OSError:
        raise
    except Exception as error:  # pydicom's parser raises whatever a damaged file makes it meet
        raise ValueError(f"it is not a DICOM file ({type(error).__name__})") from error


def _names_another_object(path: Path, announced: str) -> bool:
    """Return whether the file meta information names another SOP instance than the data set is."""
    try:
        held = dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"])
        return str(held.SOPInstanceUID) != str(announced)
    except Exception:  # a damaged data set is sent as it is: the peer decides
        return False


def _read_bare(path: Path) -> _Outgoing:
    """Read a file whose file meta information is missing, lacks something or is another's."""
    dataset = dcmread(path, force=True)
    syntax = dataset.file_meta.get("TransferSyntaxUID") or _SYNTAXES[dataset.original_encoding]
    sop_class, sop_instance = UID(dataset.SOPClassUID), UID(dataset.SOPInstanceUID)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = sop_instance
    return _Outgoing(path, str(sop_class), str(syntax), dataset)


def _by_association(outgoing: list[_Outgoing]) -> Iterator[list[_Outgoing]]:
    """Group files so that no association proposes more than 128 contexts (PS3.8 section 9.3.2)."""
    by_context: dict[tuple[str, str], list[_Outgoing]] = defaultdict(list)
    for item in outgoing:
        by_context[item.sop_class_uid, item.transfer_syntax_uid].append(item)
    groups = list(by_context.values())
    for start in range(0, len(groups), _MOST_CONTEXTS):
        yield [item for group in groups[start : start + _MOST_CONTEXTS] for item in group]


@dataclass
class _Peer:
    host: str
    port: int
    calling_ae_title: str
    called_ae_title: str
    problem: str = ""
    """Why the last association was not made."""


def _send_group(group: Sequence[_Outgoing], peer: _Peer) -> Iterator[Sent]:
    """Send over one association, until all are answered or it is lost; nothing if there is none."""
    _config.STORE_SEND_CHUNKED_DATASET = True
    ae = AE(peer.calling_ae_title)
    ae.connection_timeout = ae.acse_timeout = ae.network_timeout = _TIMEOUT_SECONDS
    ae.dimse_timeout = _TIMEOUT_SECONDS
    pairs = dict.fromkeys((item.sop_class_uid, item.transfer_syntax_uid) for item in group)
    contexts = [build_context(sop_class, syntax) for sop_class, syntax in pairs]
    association = ae.associate(peer.host, peer.port, contexts, ae_title=peer.called_ae_title)
    keep_responses(association)
    connection = getattr(association.dul.socket, "socket", None)
    if association.is_rejected:
        peer.problem = "the peer rejected the association"
    else:
        peer.problem = f"there is no connection to {peer.host}:{peer.port}"
    try:
        for number, item in enumerate(group):
            if not association.is_established:
                return
            try:
                status = association.send_c_store(
                    item.dataset or item.path, msg_id=number % 65535 + 1
                )
            except (ValueError, AttributeError, RuntimeError, OSError) as error:
                yield Sent(item.path, False, f"not sent: {_short(error)}")
                continue
            yield _interpret(item.path, status)
            if "Status" not in status:
                association.abort()
                return
    finally:
        if association.is_established:
            association.release()
        if connection is not None:
            connection.close()  # pynetdicom leaves it open where the peer was lost


def _interpret(path: Path, status: object) -> Sent:
    code = getattr(status, "Status", None)
    if code is None:
        return Sent(path, False, "no answer: the peer closed the connection or took too long")
    comment = getattr(status, "ErrorComment", "")
    category = code_to_category(code)
    message = f"0x{code:04X} {category}" + (f": {comment}" if comment else "")
    return Sent(path, category in ("Success", "Warning"), message)


def _short(error: Exception) -> str:
    text = str(error)
    if "presentation context" in text.lower():
        return "the peer does not take this object or its transfer syntax"
    return type(error).__name__
