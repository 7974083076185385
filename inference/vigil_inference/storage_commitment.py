"""Storage commitment as a service class provider (DICOM PS3.4 annex J, push model).

A sender asks whether objects are safe here before it deletes its own. Confirmed is what has a row
and, read again now, the bytes that were recorded. An object under whose UID other bytes came too is
not confirmed: nobody can tell which of them the asker holds.

The report goes to the asker's own listener where the site names it, else back on the asker's
association. It is not kept over a restart: an asker that hears nothing asks again, as it must.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import structlog
from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance
from sqlalchemy import select

from vigil_inference.dicom_responses import keep_responses
from vigil_inference.headers import digest_of
from vigil_inference.store import Store
from vigil_inference.tables import Instance

log = structlog.get_logger(__name__)

_REQUEST_COMMITMENT = 1
_ALL_COMMITTED, _SOME_FAILED = 1, 2
RETRY_SECONDS = (5.0, 30.0, 120.0, 600.0)
_MOST_WAITING = 256
_QUERY_SIZE = 500

# DIMSE statuses (PS3.7 annex C) and failure reasons (PS3.3 table C.14-1).
_SUCCESS = 0x0000
_PROCESSING_FAILURE = 0x0110
_NO_SUCH_INSTANCE = 0x0112
_INVALID_ARGUMENT = 0x0115
_CLASS_INSTANCE_CONFLICT = 0x0119
_NO_SUCH_ACTION = 0x0123
_RESOURCE_LIMITATION = 0x0213

ACTION_STATUSES = {
    _SUCCESS: "the request is taken, a report follows",
    _NO_SUCH_INSTANCE: "it is not addressed to the well-known instance",
    _INVALID_ARGUMENT: "its data set lacks a transaction UID or references",
    _NO_SUCH_ACTION: "the action type is not 1",
    _RESOURCE_LIMITATION: f"{_MOST_WAITING} requests wait already, or the service stops",
}
"""What an N-ACTION request may be answered with."""
FAILURE_REASONS = {
    _PROCESSING_FAILURE: "its file is not what was recorded, or other bytes came under its UID too",
    _NO_SUCH_INSTANCE: "it is not held, or its pixels were removed by rule",
    _CLASS_INSTANCE_CONFLICT: "it is held, as an object of another SOP class",
}
"""Why an object is not committed to."""


@dataclass(frozen=True)
class Reference:
    """One object that is asked about."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True)
class _Transaction:
    uid: str
    references: tuple[Reference, ...]
    calling_ae_title: str
    association: Association


def failure_reasons(
    store: Store, data_dir: Path, references: Sequence[Reference]
) -> dict[Reference, int]:
    """Return why objects are not committed to; those that are safe are left out.

    Raises SQLAlchemy's errors when the database cannot be read.
    """
    held: dict[str, Instance] = {}
    uids = [reference.sop_instance_uid for reference in references]
    with store.reading() as session:
        for start in range(0, len(uids), _QUERY_SIZE):
            some = Instance.sop_instance_uid.in_(uids[start : start + _QUERY_SIZE])
            held |= {
                row.sop_instance_uid: row for row in session.scalars(select(Instance).where(some))
            }
    reasons = {}
    for reference in references:
        row = held.get(reference.sop_instance_uid)
        if row is None or row.removed_at is not None:
            reasons[reference] = _NO_SUCH_INSTANCE
        elif row.sop_class_uid != reference.sop_class_uid:
            reasons[reference] = _CLASS_INSTANCE_CONFLICT
        elif row.conflicts or not _is_whole(data_dir / row.file_path, row.sha256):
            reasons[reference] = _PROCESSING_FAILURE
    return reasons


def _is_whole(path: Path, sha256: str) -> bool:
    try:
        return digest_of(path) == sha256
    except OSError:
        return False


class CommitmentProvider:
    """Takes requests for storage commitment and reports on them.

    Parameters
    ----------
    store, data_dir
        What is held.
    ae_title
        Our own title.
    peers
        Host and port by calling title, for reports on an association of their own.
    timeout_seconds
        Of these associations.
    """

    def __init__(
        self,
        store: Store,
        data_dir: Path,
        ae_title: str,
        peers: Mapping[str, tuple[str, int]],
        timeout_seconds: float,
    ) -> None:
        self._store = store
        self._data_dir = data_dir
        self._peers = dict(peers)
        self._ae = AE(ae_title)
        self._ae.connection_timeout = self._ae.acse_timeout = timeout_seconds
        self._ae.network_timeout = self._ae.dimse_timeout = timeout_seconds
        self._workers = ThreadPoolExecutor(4, thread_name_prefix="commitment")
        self._lock = threading.Lock()
        self._waiting = 0
        self._timers: set[threading.Timer] = set()
        self._under_way: set[Future[None]] = set()
        self._stopped = False

    def handle_action(self, event: evt.Event) -> tuple[int, None]:
        """Answer an N-ACTION request; the report follows once the answer has been sent."""
        if event.request.RequestedSOPInstanceUID != StorageCommitmentPushModelInstance:
            return _NO_SUCH_INSTANCE, None
        if event.action_type != _REQUEST_COMMITMENT:
            return _NO_SUCH_ACTION, None
        try:
            information = event.action_information
            transaction = _Transaction(
                str(information.TransactionUID),
                tuple(
                    Reference(str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID))
                    for item in information.ReferencedSOPSequence
                ),
                str(event.assoc.requestor.ae_title).strip(),
                event.assoc,
            )
            if not (transaction.uid and transaction.references):
                return _INVALID_ARGUMENT, None
        except Exception as error:  # pydicom raises whatever a malformed data set makes it meet
            log.warning("commitment_malformed", error=type(error).__name__)
            return _INVALID_ARGUMENT, None
        with self._lock:
            if self._stopped or self._waiting >= _MOST_WAITING:
                return _RESOURCE_LIMITATION, None
            self._waiting += 1
        event.assoc.dimse.after_response = lambda: self._submit(transaction, 0)
        return _SUCCESS, None

    def stop(self, timeout_seconds: float = 30.0) -> None:
        """Report no more, and wait for reports under way; whoever still waits asks again."""
        with self._lock:
            self._stopped = True
            for timer in self._timers:
                timer.cancel()
        self._workers.shutdown(wait=False, cancel_futures=True)
        wait(self._under_way, timeout_seconds)

    def _submit(self, transaction: _Transaction, attempt: int) -> None:
        try:
            future = self._workers.submit(self._work, transaction, attempt)
            self._under_way.add(future)
            future.add_done_callback(self._under_way.discard)
        except RuntimeError:  # stopped in the meantime
            log.info("commitment_not_reported", reason="the service stops")

    def _work(self, transaction: _Transaction, attempt: int) -> None:
        known = {"calling_ae_title": transaction.calling_ae_title, "attempt": attempt + 1}
        try:
            reasons = failure_reasons(self._store, self._data_dir, transaction.references)
            self._report(transaction, reasons)
        except Exception as error:  # pynetdicom raises whatever a peer makes it meet
            log.warning("commitment_not_reported", error=type(error).__name__, **known)
            if self._try_again(transaction, attempt):
                return
        else:
            log.info(
                "commitment_reported",
                objects=len(transaction.references),
                failed=len(reasons),
                **known,
            )
        with self._lock:
            self._waiting -= 1

    def _try_again(self, transaction: _Transaction, attempt: int) -> bool:
        """Wait for another attempt; return whether there is one."""
        if transaction.calling_ae_title not in self._peers or attempt >= len(RETRY_SECONDS):
            return False
        again: Callable[[], None] = lambda: self._submit(transaction, attempt + 1)  # noqa: E731
        timer = threading.Timer(RETRY_SECONDS[attempt], again)
        timer.daemon = True
        with self._lock:
            if self._stopped:
                return False
            self._timers = {other for other in self._timers if other.is_alive()} | {timer}
            timer.start()
        return True

    def _report(self, transaction: _Transaction, reasons: Mapping[Reference, int]) -> None:
        """Send the event report.

        Raises
        ------
        OSError
            If it did not reach the asker, or was not taken.
        """
        peer = self._peers.get(transaction.calling_ae_title)
        if peer is None:
            _send(transaction.association, transaction, reasons)
            return
        association = self._ae.associate(
            *peer,
            [build_context(StorageCommitmentPushModel)],
            ae_title=transaction.calling_ae_title,
            # The roles are those of the service, not of the connection (PS3.4 J.3.3).
            ext_neg=[build_role(StorageCommitmentPushModel, scp_role=True)],
        )
        keep_responses(association)
        try:
            _send(association, transaction, reasons)
        finally:
            if association.is_established:
                association.release()


def _send(
    association: Association, transaction: _Transaction, reasons: Mapping[Reference, int]
) -> None:
    if not association.is_established:
        raise ConnectionError("there is no association with the asker")
    answer, _ = association.send_n_event_report(
        _event_information(transaction, reasons),
        _SOME_FAILED if reasons else _ALL_COMMITTED,
        StorageCommitmentPushModel,
        StorageCommitmentPushModelInstance,
    )
    if getattr(answer, "Status", None) != _SUCCESS:
        raise ConnectionError("the asker did not take the report")


def _event_information(transaction: _Transaction, reasons: Mapping[Reference, int]) -> Dataset:
    """Return the report's data set (PS3.4 table J.3-2)."""
    committed, failed = [], []
    for reference in transaction.references:
        item = Dataset()
        item.ReferencedSOPClassUID = UID(reference.sop_class_uid)
        item.ReferencedSOPInstanceUID = UID(reference.sop_instance_uid)
        if reference in reasons:
            item.FailureReason = reasons[reference]
            failed.append(item)
        else:
            committed.append(item)
    information = Dataset()
    information.TransactionUID = transaction.uid
    if committed:
        information.ReferencedSOPSequence = committed
    if failed:
        information.FailedSOPSequence = failed
    return information
