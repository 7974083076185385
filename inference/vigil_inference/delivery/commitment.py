"""The door for storage commitment reports, which come on associations of their own.

DICOM PS3.4 J.3.3: an N-EVENT-REPORT says of each object of a transaction that it is committed, or
why it is not. The destination calls us by the title under which it was asked; in its own table of
peers that title must stand with this port.
"""

from collections.abc import Callable

import structlog
from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification
from pynetdicom.transport import ThreadedAssociationServer
from sqlalchemy.exc import SQLAlchemyError

from vigil.errors import StorageError
from vigil_inference.delivery.ledger import Ledger
from vigil_inference.intake import errno_name

log = structlog.get_logger(__name__)

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110


def handle_report(
    event: evt.Event, ledger: Ledger, wait: Callable[[int], float]
) -> tuple[int, Dataset | None]:
    """Take in one report; a destination that gets a failure for an answer may report again."""
    try:
        report = event.event_information
        transaction_uid = str(report.get("TransactionUID", ""))
        failed = report.get("FailedSOPSequence")
        if failed:
            reason = failed[0].get("FailureReason")
            word = "NOT_COMMITTED" if reason is None else f"NOT_COMMITTED_{reason:04X}"
            sentence = f"the destination does not commit itself to its storage ({word})"
            known = ledger.not_committed(transaction_uid, word, sentence, wait)
        else:
            known = ledger.committed(transaction_uid)
    except (SQLAlchemyError, TimeoutError) as error:
        log.error("commitment_not_recorded", error=type(error).__name__)
        return PROCESSING_FAILURE, None
    except Exception as error:  # the association must live; the report may be malformed
        log.error("commitment_report_unreadable", error=type(error).__name__)
        return PROCESSING_FAILURE, None
    log.info("commitment_reported", known=known, failed=bool(failed))
    return SUCCESS, None


class CommitmentListener:
    """Listens for reports.

    Parameters
    ----------
    host, port
        Where to listen; port 0 takes a free one.
    ae_title
        Our title.
    ledger
        Where reports go.
    wait
        How many seconds to wait after so many attempts, before what is not held is sent again.
    """

    def __init__(
        self,
        host: str,
        port: int,
        ae_title: str,
        ledger: Ledger,
        wait: Callable[[int], float],
    ) -> None:
        self._address = (host, port)
        self._ledger = ledger
        self._wait = wait
        self._ae = AE(ae_title)
        self._ae.add_supported_context(Verification)
        self._ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        self._server: ThreadedAssociationServer | None = None

    @property
    def port(self) -> int:
        """The port that was bound."""
        if self._server is None:
            return self._address[1]
        return int(self._server.socket.getsockname()[1])

    def start(self) -> None:
        """Listen.

        Raises
        ------
        StorageError
            If the port cannot be bound.
        """
        try:
            self._server = self._ae.start_server(
                self._address,
                block=False,
                evt_handlers=[
                    (evt.EVT_N_EVENT_REPORT, handle_report, [self._ledger, self._wait]),
                    (evt.EVT_C_ECHO, lambda event: SUCCESS),
                ],
            )
        except OSError as error:
            host, port = self._address
            raise StorageError(
                f"storage commitment {host}:{port} cannot be bound ({errno_name(error)})"
            ) from error

    def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._ae.shutdown()
            self._server = None
