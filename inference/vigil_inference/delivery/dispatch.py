"""The threads of delivery: one releases results, one for each destination takes its steps.

A destination that hangs holds up nobody but itself. What a thread does next always comes from the
database, so a command line in another process, another node or a restart needs no word with it.
"""

import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from vigil_inference.delivery.commitment import CommitmentListener
from vigil_inference.delivery.desk import Desk
from vigil_inference.delivery.destinations import (
    AnyDestination,
    DicomDestination,
    DicomWebDestination,
    FolderDestination,
)
from vigil_inference.delivery.dicom_peer import DicomPeer
from vigil_inference.delivery.folder_peer import FolderPeer
from vigil_inference.delivery.ledger import Ledger, Parcel, Step
from vigil_inference.delivery.peers import Answer, Peer, Verdict
from vigil_inference.delivery.release import DueStudy, Overtaken, Release
from vigil_inference.intake import errno_name
from vigil_inference.leases import Leases
from vigil_inference.pictures import PictureStore
from vigil_inference.settings import Settings
from vigil_inference.store import Store
from vigil_inference.study_results import ResultsUnavailable

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 1.0
_FIRST_CHECK_SECONDS, _LONGEST_CHECK_SECONDS = 2.0, 60.0
_MOST_BUILDS = 8


def backoff_seconds(attempts: int, first: float, longest: float) -> float:
    """Return a wait that doubles with each attempt, up to a longest, and half of it by chance.

    The chance keeps all that failed together from coming back together.
    """
    whole = min(longest, first * 2.0 ** min(attempts - 1, 32))
    return whole * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


class Delivery:
    """Releases results and delivers them.

    Parameters
    ----------
    store, leases, pictures
        Where results come from, and by what work is taken.
    settings
        Destinations, rules and waits.
    listens
        Whether this node takes reports of storage commitment, where the settings name a port.
    """

    def __init__(
        self,
        store: Store,
        leases: Leases,
        pictures: PictureStore,
        settings: Settings,
        *,
        listens: bool = True,
    ) -> None:
        self._store = store
        self._settings = settings
        self._release = Release(store, leases, pictures, settings)
        self.desk = Desk(store)
        self.ledger = Ledger(store, leases, give_up_seconds=settings.delivery_give_up_seconds)
        self._stopping = threading.Event()
        self._couriers = [
            _Courier(destination, self._peer(destination), self.ledger, leases, store, settings)
            for destination in settings.destinations
        ]
        self.commitments: CommitmentListener | None = None
        if listens and settings.dicom_commitment_port is not None:
            self.commitments = CommitmentListener(
                settings.dicom_host,
                settings.dicom_commitment_port,
                settings.dicom_ae_title,
                self.ledger,
                lambda attempts: backoff_seconds(
                    attempts, settings.delivery_retry_seconds, settings.delivery_retry_most_seconds
                ),
            )
        self._threads = [
            threading.Thread(target=self._release_all, name="release", daemon=True),
            *(
                threading.Thread(
                    target=courier.work, args=(self._stopping,), name=f"deliver-{n}", daemon=True
                )
                for n, courier in enumerate(self._couriers)
            ),
        ]

    def start(self) -> None:
        """Take up what was left and go on.

        Raises
        ------
        StorageError
            If the port for storage commitment reports is taken.
        """
        if self.commitments is not None:
            self.commitments.start()
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_seconds: float = 10.0) -> None:
        """Finish the steps in work; one that hangs is taken up again by the next start."""
        self._stopping.set()
        until = datetime.now(UTC) + timedelta(seconds=timeout_seconds)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, (until - datetime.now(UTC)).total_seconds()))
        if self.commitments is not None:
            self.commitments.stop()

    def _peer(self, destination: AnyDestination) -> Peer:
        # Nobody loads an HTTP client who sends nothing by HTTP.
        settings = self._settings
        if isinstance(destination, DicomDestination):
            return DicomPeer(
                destination, settings.dicom_ae_title, settings.data_dir, self.ledger.note_commitment
            )
        if isinstance(destination, DicomWebDestination):
            from vigil_inference.delivery.dicomweb_peer import DicomWebPeer

            return DicomWebPeer(destination, settings.data_dir)
        if isinstance(destination, FolderDestination):
            return FolderPeer(destination, settings.data_dir)
        from vigil_inference.delivery.webhook import WebhookPeer

        return WebhookPeer(destination)

    def _release_all(self) -> None:
        while not self._stopping.is_set():
            try:
                # One at a time: a study that becomes critical meanwhile is the next.
                due = self._release.due()
                if due is not None and self._release.has_destinations:
                    self._release_one(due)
                    continue
                if due is not None:
                    self._release.pass_over()
            except Exception as error:  # the thread must live: nobody else here releases results
                log.error("release_failed", error=type(error).__name__)
            self._stopping.wait(_LOOK_SECONDS)

    def _release_one(self, due: DueStudy) -> None:
        try:
            if self._release.release(due):
                log.info("results_released", study=due.study_id)
            return
        except Overtaken:
            return
        except ResultsUnavailable as error:
            problem = str(error)
        except (SQLAlchemyError, TimeoutError) as error:
            log.error("release_failed", study=due.study_id, error=type(error).__name__)
            self._stopping.wait(_LOOK_SECONDS)
            return
        except OSError as error:
            problem = f"the results cannot be kept ({errno_name(error)})"
        except Exception as error:  # a header that the builder cannot take must not stop the others
            problem = f"the results cannot be built ({type(error).__name__})"
        log.error("results_not_released", study=due.study_id, attempts=due.attempts + 1)
        settings = self._settings
        wait = backoff_seconds(
            due.attempts + 1, settings.delivery_retry_seconds, settings.delivery_retry_most_seconds
        )
        retry_at = self._store.now() + timedelta(seconds=wait)
        try:
            self._release.put_off(
                due, problem, retry_at if due.attempts + 1 < _MOST_BUILDS else None
            )
        except (SQLAlchemyError, TimeoutError) as error:
            log.error("release_failed", study=due.study_id, error=type(error).__name__)
            self._stopping.wait(_LOOK_SECONDS)


class _Courier:
    """Takes the steps of one destination's deliveries, one after the other."""

    def __init__(
        self,
        destination: AnyDestination,
        peer: Peer,
        ledger: Ledger,
        leases: Leases,
        store: Store,
        settings: Settings,
    ) -> None:
        self._destination = destination
        self._peer = peer
        self._ledger = ledger
        self._leases = leases
        self._store = store
        self._settings = settings

    def work(self, stopping: threading.Event) -> None:
        """Take steps until told to stop."""
        while not stopping.is_set():
            try:
                if not self._take_one():
                    self._peer.close()
                    stopping.wait(_LOOK_SECONDS)
            except (SQLAlchemyError, TimeoutError) as error:
                log.error("delivery_put_off", error=type(error).__name__)
                stopping.wait(_LOOK_SECONDS)
            except Exception as error:  # the thread must live; the lease ends, another try is made
                log.error("courier_failed", error=type(error).__name__)
                stopping.wait(_LOOK_SECONDS)
        self._peer.close()

    def _take_one(self) -> bool:
        with_proof = self._destination.proof != "none"
        parcel = self._ledger.claim(self._destination.name, with_proof=with_proof)
        if parcel is None:
            return False
        with self._leases.held(parcel.lease):
            if parcel.step is Step.PROVE:
                self._prove(parcel)
            else:
                self._send(parcel)
        return True

    def _send(self, parcel: Parcel) -> None:
        if parcel.was_interrupted and self._is_held(parcel):
            self._ledger.delivered(parcel, "FOUND", "it was found where an earlier attempt ended")
            self._tell(parcel, "delivered", "FOUND")
            return
        answer = self._ask(self._peer.send, parcel)
        if answer.verdict is Verdict.ACCEPTED:
            self._ledger.sent(parcel, answer.code, answer.reason)
            self._tell(parcel, "sent", answer.code)
        elif answer.verdict is Verdict.REFUSED:
            self._fail(parcel, answer)
        elif self._store.now() >= parcel.give_up_at:
            self._fail(parcel, answer, f"given up after {parcel.attempts} attempts: ")
        else:
            wait = self._backoff(parcel.attempts)
            self._ledger.put_off(parcel, wait, answer.code, answer.reason)
            self._tell(parcel, "put_off", answer.code)

    def _prove(self, parcel: Parcel) -> None:
        settings = self._settings
        answer = self._ask(self._peer.prove, parcel)
        sent_at = parcel.sent_at or self._store.now()
        waited = (self._store.now() - sent_at).total_seconds()
        if answer.verdict is Verdict.HELD:
            self._ledger.delivered(parcel, answer.code, answer.reason)
            self._tell(parcel, "delivered", answer.code)
        elif answer.verdict is Verdict.AWAITED:
            rest = max(1.0, settings.delivery_give_up_seconds - waited)
            self._ledger.put_off(parcel, rest, answer.code, answer.reason)
        elif answer.verdict is Verdict.NOT_HELD and self._is_lost(parcel, waited):
            if self._store.now() < parcel.give_up_at:
                wait = self._backoff(parcel.attempts)
                self._ledger.send_again(parcel, wait, answer.code, answer.reason)
                self._tell(parcel, "sent_again", answer.code)
            else:
                self._fail(parcel, answer, "acknowledged, but not held: ")
        elif waited >= settings.delivery_give_up_seconds:
            self._fail(parcel, answer, "acknowledged, but never proved: ")
        else:
            is_empty = answer.verdict is Verdict.NOT_HELD
            self._ledger.put_off(
                parcel, self._check_wait(parcel, is_empty=is_empty), answer.code, answer.reason
            )

    def _is_lost(self, parcel: Parcel, waited: float) -> bool:
        """Return whether a destination had time enough to show what it took."""
        return bool(parcel.commitment_uid) or waited >= self._settings.delivery_proof_seconds

    def _check_wait(self, parcel: Parcel, *, is_empty: bool) -> float:
        """Return when to ask again: soon for what is not shown yet, later for one in trouble."""
        if is_empty:
            return backoff_seconds(parcel.checks + 1, _FIRST_CHECK_SECONDS, _LONGEST_CHECK_SECONDS)
        return self._backoff(parcel.checks + 1)

    def _is_held(self, parcel: Parcel) -> bool:
        """Return whether a destination holds what an interrupted attempt may have left there.

        A destination that can only commit itself later is sent the same object again.
        """
        if self._destination.proof in ("none", "storage-commitment"):
            return False
        return self._ask(self._peer.prove, parcel).verdict is Verdict.HELD

    def _ask(self, step: Callable[[Parcel], Answer], parcel: Parcel) -> Answer:
        try:
            return step(parcel)
        except FileNotFoundError:
            reason = "the result's kept file is not there"
            return Answer(Verdict.REFUSED, "RESULT_MISSING", reason)
        except OSError as error:
            return Answer(Verdict.LATER, errno_name(error), f"failed here ({errno_name(error)})")
        except Exception as error:  # a library's own failure must not lose the delivery
            log.error("delivery_crashed", delivery=parcel.delivery_id, error=type(error).__name__)
            reason = f"failed inside the program ({type(error).__name__})"
            return Answer(Verdict.LATER, "INTERNAL_ERROR", reason)

    def _fail(self, parcel: Parcel, answer: Answer, why: str = "") -> None:
        self._ledger.fail(parcel, answer.code, why + answer.reason)
        log.error(
            "delivery_failed",
            delivery=parcel.delivery_id,
            destination=self._destination.name,
            code=answer.code,
        )

    def _backoff(self, attempts: int) -> float:
        settings = self._settings
        return backoff_seconds(
            attempts, settings.delivery_retry_seconds, settings.delivery_retry_most_seconds
        )

    def _tell(self, parcel: Parcel, event: str, code: str) -> None:
        log.info(
            f"delivery_{event}",
            delivery=parcel.delivery_id,
            destination=self._destination.name,
            attempts=parcel.attempts,
            code=code,
        )
