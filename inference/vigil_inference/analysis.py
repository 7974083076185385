"""From a recorded picture to its result: worker threads on a queue that the database can rebuild.

A picture's state in the database is the truth; the queue only says what to do next. So a restart
puts everything that is still ``received`` back into the queue and goes on. An attempt is counted
before it is made: a picture that takes the whole process down is tried after all others, and after
a few times it is refused, which keeps one bad file from stopping the service for good.
"""

import itertools
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import structlog
from sqlalchemy.exc import SQLAlchemyError

from vigil.dicom import read_dicom
from vigil.errors import BundleError, ImageRefused, RefusalCode
from vigil.localisation import Localisation, read_localisation
from vigil_inference.events import EventHub, StudyChanged
from vigil_inference.pictures import PictureStore
from vigil_inference.records import AnalysisRecord, record_result, refuse
from vigil_inference.store import Store, Task

if TYPE_CHECKING:
    from vigil.bundle import Bundle
    from vigil.radiograph import Radiograph
    from vigil.triager import TriageResult

log = structlog.get_logger(__name__)

_RETRY_SECONDS = 2.0
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
    store, pictures, hub
        Where results go, where previews go, who hears of it.
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
        self._pictures = pictures
        self._hub = hub
        self._data_dir = data_dir
        self._load_model = load_model
        self._attempts = attempts
        self._retry_seconds = retry_seconds
        self._preview_pixels = preview_pixels
        self._queue: queue.PriorityQueue[tuple[int, int, Task | None]] = queue.PriorityQueue()
        self._order = itertools.count()
        self._stopping = threading.Event()
        self._model: Triages | None = None
        self._model_lock = threading.Lock()
        self._status = ModelStatus(False, "the model is being loaded")
        # Pictures whose attempt this process has counted already, with how many there were before:
        # trying again where the database or the disk failed is not another crash.
        self._counted: dict[int, int] = {}
        self._unreadable: dict[int, int] = {}
        self._suspects = threading.Lock()
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
        """How many pictures wait in the queue."""
        return self._queue.qsize()

    def start(self) -> None:
        """Queue everything that waits and start working."""
        for task in self._store.waiting():
            self.submit(task)
        for thread in self._threads:
            thread.start()

    def submit(self, task: Task) -> None:
        """Queue a picture: those that never failed first, then by arrival."""
        self._queue.put((task.attempts, next(self._order), task))
        self._hub.publish(StudyChanged(task.study_instance_uid))

    def stop(self, timeout_seconds: float = 30.0) -> None:
        """Finish the pictures in work and leave the others for the next start."""
        self._stopping.set()
        for _ in self._threads:
            self._queue.put((-1, next(self._order), None))
        deadline = time.monotonic() + timeout_seconds
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        model = self._wait_for_model()
        while model is not None and not self._stopping.is_set():
            _, _, task = self._queue.get()
            if task is None:
                return
            try:
                self._analyse(model, task)
            except (SQLAlchemyError, OSError) as error:
                # Nothing is lost: the row still says `received`. TimeoutError is an OSError.
                log.error("analysis_put_off", instance=task.instance_id, error=type(error).__name__)
                self._stopping.wait(_RETRY_SECONDS)
                self._queue.put((task.attempts, next(self._order), task))
            except Exception as error:
                # The worker must live. The message may quote the picture's header, so only its
                # type is told; a restart takes the picture up again.
                log.error(
                    "analysis_worker_failed", instance=task.instance_id, error=type(error).__name__
                )

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
        self._model = model
        bundle = model.bundle
        self._status = ModelStatus(True, "", bundle.id, bundle.digest, read_localisation(bundle))
        log.info("model_ready", bundle=model.bundle.id, digest=model.bundle.digest)

    def _analyse(self, model: Triages, task: Task) -> None:
        attempts = self._counted.get(task.instance_id)
        if attempts is None:
            attempts = self._store.begin_attempt(task.instance_id)
        if attempts is None:
            return  # it has its result already
        self._counted[task.instance_id] = attempts
        if attempts == 0:
            self._answer(model, task, attempts)
            return
        # One suspect at a time: an innocent picture that was in work beside one that ends the
        # process must not be blamed for it again.
        with self._suspects:
            self._answer(model, task, attempts)

    def _answer(self, model: Triages, task: Task, attempts: int) -> None:
        if attempts >= self._attempts:
            record = refuse(
                RefusalCode.INTERNAL_ERROR,
                f"the analysis of this picture ended the program {attempts} times",
            )
        else:
            self._check_original(task)
            record = self._triage(model, task)
        if self._store.record_result(task.instance_id, record):
            log.info(
                "analysed",
                instance=task.instance_id,
                status=record.status,
                code=record.code,
                milliseconds=round(record.milliseconds, 1),
            )
            self._hub.publish(StudyChanged(task.study_instance_uid))
        self._counted.pop(task.instance_id, None)
        self._unreadable.pop(task.instance_id, None)

    def _check_original(self, task: Task) -> None:
        """Put a picture off while its file cannot be opened: a disk may be late or busy.

        After some tries it goes to the core as it is, which answers ``FILE_UNREADABLE``; the same
        object sent again opens the case anew (:meth:`vigil_inference.intake.Intake.accept`).

        Raises
        ------
        OSError
            If it cannot be opened and was not tried often enough.
        """
        try:
            with (self._data_dir / task.file_path).open("rb"):
                return
        except OSError:
            tries = self._unreadable.get(task.instance_id, 0) + 1
            self._unreadable[task.instance_id] = tries
            if tries < _MOST_TRIES_TO_OPEN:
                raise

    def _triage(self, model: Triages, task: Task) -> AnalysisRecord:
        try:
            result = model.triage(self._data_dir / task.file_path)
        except (
            Exception
        ) as error:  # the core promises not to raise; a patient must not pay for a bug
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
        return record_result(result, model.bundle.manifest, has_preview=has_preview)


def _read_refused(path: Path) -> "Radiograph | None":
    try:
        return read_dicom(path)
    except ImageRefused:
        return None
    except Exception as error:  # a preview is worth nothing that could cost the result
        log.warning("refused_picture_not_shown", error=type(error).__name__)
        return None
