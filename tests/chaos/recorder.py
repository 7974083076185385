"""A destination that writes down each object that comes, and misbehaves when it is told to.

It is what Orthanc cannot be made to be: it refuses, hangs and warns by status, and it counts an
object that comes twice.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any, Self

from pydicom import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from tests.system.peers import HOST, free_port

SUCCESS = 0x0000


class Recorder:
    """A storage SCP with C-FIND over what it took.

    Attributes
    ----------
    arrivals
        How often each SOP Instance UID was taken, that is answered with success or a warning.
    requests
        How often each was asked for, whatever the answer.
    """

    def __init__(self, name: str = "recorder") -> None:
        self.name = name
        self.port = free_port()
        self.arrivals: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self._status = SUCCESS
        self._reject = False
        self._hang = threading.Event()
        self._hang.set()
        self._lock = threading.Lock()
        self._server: Any = None

    def __enter__(self) -> Self:
        self.listen()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.answer()
        self.close()

    def listen(self) -> None:
        """Open the port."""
        ae = AE("RECORDER")
        ae.supported_contexts = AllStoragePresentationContexts
        ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        ae.network_timeout = ae.acse_timeout = ae.dimse_timeout = 30
        handlers = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_FIND, self._find),
            (evt.EVT_REQUESTED, self._requested),
        ]
        self._server = ae.start_server((HOST, self.port), block=False, evt_handlers=handlers)

    def close(self) -> None:
        """Close the port, in the middle of whatever comes."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()

    def answer(self, status: int = SUCCESS) -> None:
        """Answer each object with a status from now on."""
        self._status, self._reject = status, False
        self._hang.set()

    def hang(self) -> None:
        """Answer nothing until told otherwise."""
        self._hang.clear()

    def reject(self) -> None:
        """Reject associations until told otherwise."""
        self._reject = True

    def destination(self, **fields: Any) -> dict[str, Any]:
        """Return the settings that lead to it."""
        return {
            "name": self.name,
            "kind": "c-store",
            "host": HOST,
            "port": self.port,
            "ae_title": "RECORDER",
            "timeout_seconds": 5,
        } | fields

    def twice(self) -> list[str]:
        """Return what was taken more than once."""
        return [uid for uid, count in self.arrivals.items() if count > 1]

    def _requested(self, event: evt.Event) -> None:
        if self._reject:
            event.assoc.acse.send_reject(0x02, 0x03, 0x02)
            event.assoc.kill()

    def _store(self, event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        status = self._status
        with self._lock:
            self.requests[uid] += 1
        if not self._hang.is_set():
            # It hangs before it takes the object: what is not answered is not held.
            self._hang.wait(60)
            return 0xA700
        if status == SUCCESS or status >> 12 == 0xB:
            with self._lock:
                self.arrivals[uid] += 1
        return status

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        self._hang.wait(60)
        wanted = str(event.identifier.get("SOPInstanceUID", ""))
        if self.arrivals[wanted]:
            found = Dataset()
            found.QueryRetrieveLevel = "IMAGE"
            found.SOPInstanceUID = wanted
            yield 0xFF00, found
