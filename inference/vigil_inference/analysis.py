"""From a recorded picture to its result: worker threads on rows that all nodes share.

A picture's row in the database is the work item, and a lease says who works on it
(:mod:`vigil_inference.picture_queue`). Nothing is queued in memory: a worker is woken when a
picture was accepted, here or on another node, and looks now and then for what a dead node left.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from vigil.dicom import read_dicom
from vigil.errors import BundleError, ImageRefused, RefusalCode
from vigil.localisation import Localisation, read_localisation
from vigil_inference.events import EventHub, StudyChanged
from vigil_inference.intake import errno_name
from vigil_inference.leases import Lease, Leases
from vigil_inference.picture_queue import Claim, PictureQueue
from vigil_inference.pictures import PictureStore
from vigil_inference.records import AnalysisRecord, record_result, refuse
from vigil_inference.store import Store, Task

if TYPE_CHECKING:
    from vigil.bundle import Bundle
    from vigil.radiograph import Radiograph
    from vigil.triager import TriageResult

log = structlog.get_logger(__name__)

_RETRY_SECONDS = 2.0
_LOOK_SECONDS = 1.0
_SUSPECT_EVERY = 8
"""Each eighth picture may be a suspect though others wait: "after all others" must not be never."""
_MOST_TRIES_TO_OPEN = 5

# Refused by its header before a pixel was read, yet a person wants to see what it is.
_SHOWN_THOUGH_REFUSED = frozenset(
    {RefusalCode.NOT_FRONTAL, RefusalCode.NOT_CHEST, RefusalCode.DERIVED}
)


class Triages(Protocol):
    """What analysis needs of :class:`vigil.triager.Triager`."""

    bundle: "Bundle"

    def triage(self, path: Path) -> "TriageResult":
        """Answer for a picture; never raises for a bad one."""
        ...


@dataclass(frozen=True)
class ModelStatus:
    """Whether pictures can be analysed now, and if not, why."""

    available: bool
    reason: str
    bundle_id: str = ""
    bundle_digest: str = ""
    localisation: Localisation | None = None
    """How far the bundle's heat maps were measured to be from a radiologist's boxes."""


class Analysis:
    """Worker threads that turn pictures into results.

    Parameters
    ----------
    store, leases
        Where pictures wait and results go, and by what pictures are taken.
    pictures, hub
        Where previews go, who hears of a result.
    data_dir
        What the tasks' paths are relative to.
    load_model
        Loads the model; raises BundleError. Called in a worker, so the doors open meanwhile.
    workers
        How many pictures at the same time.
    attempts
        After how many crashes a picture is refused.
    retry_seconds
        How long to wait before loading a missing model again.
    preview_pixels
        Longer side of the previews.
    """

    def __init__(
        self,
        store: Store,
        leases: Leases,
        pictures: PictureStore,
        hub: EventHub,
        data_dir: Path,
        load_model: Callable[[], Triages],
        *,
        workers: int = 1,
        attempts: int = 5,
        retry_seconds: float = 30.0,
        preview_pixels: int = 1536,
    ) -> None:
        self._store = store
        self._leases = leases
        self._queue = PictureQueue(store, leases)
        self._pictures = pictures
        self._hub = hub
        self._data_dir = data_dir
        self._load_model = load_model
        self._attempts = attempts
        self._retry_seconds = retry_seconds
        self._preview_pixels = preview_pixels
        self._stopping = threading.Event()
        self._model: Triages | None = None
        self._model_lock = threading.Lock()
        self._status = ModelStatus(False, "the model is being loaded")
        self._supervised = ""
        self._stir = _Stir()
        self._unreadable: dict[int, int] = {}
        self._suspects = threading.Lock()
        self._in_work: set[Lease] = set()
        self._threads = [
            threading.Thread(target=self._work, name=f"analysis-{n}", daemon=True)
            for n in range(workers)
        ]

    @property
    def status(self) -> ModelStatus:
        """Whether pictures can be analysed now."""
        return self._status

    @property
    def backlog(self) -> int:
        """How many pictures are still to be answered, by any node."""
        return self._queue.count()

    @property
    def is_working(self) -> bool:
        """Whether a picture is in work here."""
        return bool(self._in_work)

    def use(self, model: Triages) -> None:
        """Let another model answer from the next picture on; those in work keep theirs."""
        bundle = model.bundle
        self._model = model
        self._status = ModelStatus(True, "", bundle.id, bundle.digest, read_localisation(bundle))

    def supervise(self, digest: str) -> None:
        """Mark what this bundle answers as read under supervision; "" marks nothing."""
        self._supervised = digest

    def start(self) -> None:
        """Start working on whatever waits."""
        for thread in self._threads:
            thread.start()

    def submit(self, task: Task) -> None:
        """Take note of a picture that this node accepted: a worker takes it at once."""
        self.stir()
        self._hub.publish(StudyChanged(task.study_instance_uid))

    def stir(self) -> None:
        """Let a worker look whether there is something to do."""
        self._stir.call()

    def stop(self, timeout_seconds: float = 30.0) -> None:
        """Finish the pictures in work and leave the others for the next start, or another node.

        One that is not finished in time is handed back. Its attempt counts: it may be what holds
        the worker, and comes after the others then.
        """
        self._stopping.set()
        self._stir.call(everybody=True)
        deadline = time.monotonic() + timeout_seconds
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        for lease in tuple(self._in_work):
            try:
                self._leases.give_back(lease)
                log.warning("handed_back", instance=lease.row_id)
            except (SQLAlchemyError, TimeoutError) as error:
                log.warning("not_handed_back", instance=lease.row_id, error=type(error).__name__)

    def _work(self) -> None:
        first = self._wait_for_model()
        taken = 0
        while first is not None and not self._stopping.is_set():
            model = self._model or first
            seen = self._stir.calls
            try:
                if self._take_one(
                    model, suspects_first=taken % _SUSPECT_EVERY == _SUSPECT_EVERY - 1
                ):
                    taken += 1
                else:
                    self._stir.wait_for_more_than(seen, _LOOK_SECONDS)
            except (SQLAlchemyError, OSError) as error:
                # TimeoutError is an OSError. Nothing is lost: the row still says `received`.
                log.error("analysis_put_off", error=type(error).__name__)
                self._stopping.wait(_RETRY_SECONDS)
            except BaseException as error:
                # The worker must live, also where native code raises what is no Exception. The
                # message may quote the picture's header, so only its type is told; when the lease
                # has ended the picture is taken up again.
                log.error("analysis_worker_failed", error=type(error).__name__)
                self._stopping.wait(_RETRY_SECONDS)

    def _take_one(self, model: Triages, *, suspects_first: bool) -> bool:
        """Take a picture and answer it; return whether there was one.

        One suspect at a time: an innocent picture that was in work beside one that ends the
        process must not be blamed for it again.
        """
        may_suspect = self._suspects.acquire(blocking=False)
        try:
            claim = self._queue.claim(suspects=may_suspect, suspects_first=suspects_first)
            if may_suspect and (claim is None or claim.task.attempts == 0):
                self._suspects.release()
                may_suspect = False
            if claim is None:
                return False
            self._in_work.add(claim.lease)
            try:
                with self._leases.held(claim.lease):
                    self._answer(model, claim)
            finally:
                self._in_work.discard(claim.lease)
            return True
        finally:
            if may_suspect:
                self._suspects.release()

    def _wait_for_model(self) -> Triages | None:
        while not self._stopping.is_set():
            with self._model_lock:
                if self._model is None:
                    self._try_to_load()
                if self._model is not None:
                    return self._model
            self._stopping.wait(self._retry_seconds)
        return None

    def _try_to_load(self) -> None:
        try:
            model = self._load_model()
        except BundleError as error:
            if self._status.reason != str(error):
                log.error("model_unavailable", reason=str(error))
            self._status = ModelStatus(False, str(error))
            return
        except Exception as error:  # a broken installation must not silence the doors
            log.error("model_failed_to_load", error=type(error).__name__)
            self._status = ModelStatus(False, f"the model failed to load ({type(error).__name__})")
            return
        self.use(model)
        log.info("model_ready", bundle=model.bundle.id, digest=model.bundle.digest)

    def _answer(self, model: Triages, claim: Claim) -> None:
        task = claim.task
        if task.attempts >= self._attempts:
            record = refuse(
                RefusalCode.INTERNAL_ERROR,
                f"the analysis of this picture ended the program {task.attempts} times",
            )
        else:
            try:
                self._check_original(task)
            except OSError as error:
                log.error("original_not_open", instance=task.instance_id, error=errno_name(error))
                self._queue.put_off(claim, _RETRY_SECONDS)
                return
            record = self._triage(model, task)
        if self._record(claim, record):
            log.info(
                "analysed",
                instance=task.instance_id,
                status=record.status,
                code=record.code,
                milliseconds=round(record.milliseconds, 1),
            )
            self._hub.publish(StudyChanged(task.study_instance_uid))
        else:
            log.warning("answered_by_another", instance=task.instance_id)
        self._unreadable.pop(task.instance_id, None)

    def _record(self, claim: Claim, record: AnalysisRecord) -> bool:
        """Store a result; while the database is away, it waits here and is not made again."""
        instance_id, token = claim.task.instance_id, claim.lease.token
        while True:
            try:
                return self._store.record_result(instance_id, record, token)
            except (OperationalError, InterfaceError, TimeoutError) as error:
                log.error("result_waits", instance=instance_id, error=type(error).__name__)
                if self._stopping.wait(_RETRY_SECONDS):
                    raise
            except SQLAlchemyError as error:
                # It is this document that the database does not take, and never will.
                if record.code is RefusalCode.INTERNAL_ERROR:
                    raise
                log.error("result_not_stored", instance=instance_id, error=type(error).__name__)
                record = refuse(
                    RefusalCode.INTERNAL_ERROR,
                    f"the result could not be stored ({type(error).__name__})",
                )

    def _check_original(self, task: Task) -> None:
        """Raise while a picture's file cannot be opened: a disk may be late or busy.

        After some tries it goes to the core as it is, which answers ``FILE_UNREADABLE``; the same
        object sent again opens the case anew (:meth:`vigil_inference.intake.Intake.accept`).
        Where the whole folder is away, a share that is not mounted, no try is counted.

        Raises
        ------
        OSError
            If it cannot be opened and was not tried often enough.
        """
        try:
            with (self._data_dir / task.file_path).open("rb"):
                return
        except OSError:
            if not (self._data_dir / "instances").is_dir():
                raise
            tries = self._unreadable.get(task.instance_id, 0) + 1
            self._unreadable[task.instance_id] = tries
            if tries < _MOST_TRIES_TO_OPEN:
                raise

    def _triage(self, model: Triages, task: Task) -> AnalysisRecord:
        try:
            result = model.triage(self._data_dir / task.file_path)
        except BaseException as error:
            # The core promises not to raise; a patient must not pay for a bug, be it one of native
            # code whose panics are no Exceptions.
            log.error("analysis_crashed", instance=task.instance_id, error=type(error).__name__)
            return refuse(
                RefusalCode.INTERNAL_ERROR,
                f"the analysis failed inside the program ({type(error).__name__})",
            )
        has_preview = False
        radiograph = result.radiograph
        if radiograph is None and result.code in _SHOWN_THOUGH_REFUSED:
            radiograph = _read_refused(self._data_dir / task.file_path)
        if radiograph is not None:
            try:
                self._pictures.save(
                    task.sha256, radiograph.pixels, result.maps, self._preview_pixels
                )
                has_preview = True
            except Exception as error:  # a preview must never cost the result
                log.error(
                    "preview_not_stored", instance=task.instance_id, error=type(error).__name__
                )
        return record_result(
            result,
            model.bundle.manifest,
            has_preview=has_preview,
            is_supervised=model.bundle.digest == self._supervised,
        )


class _Stir:
    """A call that no worker misses: each remembers how many there were before it looked."""

    def __init__(self) -> None:
        self.calls = 0
        self._condition = threading.Condition()

    def call(self, *, everybody: bool = False) -> None:
        """Wake one waiting worker, or all."""
        with self._condition:
            self.calls += 1
            self._condition.notify_all() if everybody else self._condition.notify()

    def wait_for_more_than(self, seen: int, timeout_seconds: float) -> None:
        """Wait for a call after the one that was seen, or for the time to pass."""
        with self._condition:
            self._condition.wait_for(lambda: self.calls > seen, timeout_seconds)


def _read_refused(path: Path) -> "Radiograph | None":
    try:
        return read_dicom(path)
    except ImageRefused:
        return None
    except Exception as error:  # a preview is worth nothing that could cost the result
        log.warning("refused_picture_not_shown", error=type(error).__name__)
        return None
