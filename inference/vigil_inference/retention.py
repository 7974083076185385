"""Removing originals and results by rule, after their delivery was proved, and never before.

Of an original the pixels go: its file is replaced by one without them, so that a report that a
later picture asks for can still be built, and searches still know its numbers. Of a result the file
goes. Rows stay and say when and why. What was sent again after that is kept again.
"""

import shutil
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import pydicom
import structlog
from sqlalchemy import ColumnElement, and_, exists, func, or_, select, update
from sqlalchemy.orm import Session

from vigil_inference.delivery.destinations import AnyDestination
from vigil_inference.delivery.durable import write_durably
from vigil_inference.delivery.states import DeliveryState
from vigil_inference.delivery.tables import Delivery, ResultObject, ResultSet
from vigil_inference.intake import errno_name
from vigil_inference.leases import is_free
from vigil_inference.settings import Settings
from vigil_inference.store import Store
from vigil_inference.tables import Instance, State, Study

log = structlog.get_logger(__name__)

_AT_ONCE = 50
_LONGEST_VALUE_BYTES = 64 * 1024
_UNENDED = (DeliveryState.PENDING, DeliveryState.SENDING, DeliveryState.FAILED)


class Retention:
    """Removes what a site's rules let go.

    Parameters
    ----------
    store, settings
        The record; the rules, the folder, and the destinations that prove nothing.
    on_removed
        Called with the study of each original that was removed; must not raise.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        on_removed: Callable[[str], None] = lambda study_instance_uid: None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._data_dir = settings.data_dir
        self._on_removed = on_removed
        self._is_proved = _proofs(settings.destinations)
        self._unstrippable: set[int] = set()

    @property
    def has_rules(self) -> bool:
        """Whether anything is ever removed."""
        settings = self._settings
        rules = (
            settings.retention_originals_days,
            settings.retention_results_days,
            settings.retention_free_bytes,
        )
        return any(rule is not None for rule in rules)

    def apply(self) -> int:
        """Remove all that may go now; return how many files.

        Raises SQLAlchemy's errors when the database cannot be reached or written.
        """
        removed = 0
        settings = self._settings
        days = settings.retention_originals_days
        if days is not None:
            reason = f"{days:g} days after its results were delivered (retention_originals_days)"
            removed += self._remove_originals(days, reason)
        days = settings.retention_results_days
        if days is not None:
            reason = f"{days:g} days after it was delivered (retention_results_days)"
            removed += self._remove_results(days, reason)
        if self._is_short_of_space():
            reason = "to make room on the disk, after delivery (retention_free_bytes)"
            removed += self._remove_originals(0, reason, self._is_short_of_space)
            removed += self._remove_results(0, reason, self._is_short_of_space)
            if self._is_short_of_space():
                log.warning("retention_found_no_more_to_remove")
        if removed:
            log.info("removed_by_rule", files=removed)
        return removed

    def finish(self) -> int:
        """Remove the pixels of originals that a process left when it died; return how many."""
        statement = select(Instance.id, Instance.file_path, Instance.size_bytes)
        with self._store.reading() as session:
            rows = session.execute(statement.where(Instance.removed_at.is_not(None))).all()
        finished = 0
        for row in rows:
            path = self._data_dir / row.file_path
            try:
                if path.stat().st_size >= row.size_bytes and self._strip(path):
                    finished += 1
            except OSError as error:
                log.warning("removal_not_finished", instance=row.id, error=errno_name(error))
        return finished

    def _is_short_of_space(self) -> bool:
        least = self._settings.retention_free_bytes
        return least is not None and shutil.disk_usage(self._data_dir).free < least

    def _remove_originals(
        self, days: float, reason: str, goes_on: Callable[[], bool] = lambda: True
    ) -> int:
        removed = 0
        while goes_on() and (some := self._originals(days)):
            done = sum(self._remove_original(row, days, reason) for row in some if goes_on())
            removed += done
            if not done:
                break
        return removed

    def _originals(self, days: float) -> Sequence[Instance]:
        """Return originals that may go, those first that are held longest."""
        statement = (
            select(Instance)
            .join(Study)
            .where(*self._original_may_go(days), Instance.id.not_in(self._unstrippable))
            .order_by(Instance.stored_at, Instance.id)
            .limit(_AT_ONCE)
        )
        with self._store.reading() as session:
            return session.scalars(statement).all()

    def _original_may_go(self, days: float) -> tuple[ColumnElement[bool], ...]:
        limit = self._store.now() - timedelta(days=days)
        waiting = exists().where(
            Instance.study_id == Study.id, Instance.state == State.RECEIVED.value
        )
        objects = ResultSet.study_id == Study.id, ResultSet.id == ResultObject.result_set_id
        went = exists().where(Delivery.result_object_id == ResultObject.id)
        late = exists().where(Delivery.study_id == Study.id, Delivery.delivered_at > limit)
        # A picture that came after the last release may be in none: no destination wanted another.
        answered_at = func.coalesce(Instance.analysed_at, Instance.received_at)
        spoke_of_it = ResultSet.released_at >= answered_at
        return (
            Instance.removed_at.is_(None),
            Instance.stored_at <= limit,
            Instance.state != State.RECEIVED.value,
            _is_quiet(self._store),
            ~waiting.correlate(Study),
            exists().where(*objects, self._is_proved, spoke_of_it).correlate(Study, Instance),
            ~exists().where(*objects, went, ~self._is_proved).correlate(Study),
            ~late.correlate(Study),
        )

    def _remove_original(self, row: Instance, days: float, reason: str) -> bool:
        """Record the removal first: a process that dies then leaves pixels, never a false word."""
        path = self._data_dir / row.file_path
        try:
            content = header_of(path)
        except Exception as error:  # pydicom's parser raises whatever a damaged file makes it meet
            log.warning("original_not_removed", instance=row.id, error=type(error).__name__)
            self._unstrippable.add(row.id)
            return False
        now = self._store.now()
        with self._store.writing() as session:
            uid = _lock_study(session, row.study_id)
            may_go = session.scalar(
                select(Instance.id)
                .join(Study)
                .where(
                    Instance.id == row.id,
                    Instance.file_path == row.file_path,
                    *self._original_may_go(days),
                )
            )
            if may_go is None:
                return False
            session.execute(
                update(Instance)
                .where(Instance.id == row.id)
                .values(removed_at=now, removal_reason=reason)
            )
            self._store.announce(session, uid)
        try:
            _replace(path, content)
        except OSError as error:
            log.error("removal_not_finished", instance=row.id, error=errno_name(error))
        self._on_removed(uid)
        return True

    def _strip(self, path: Path) -> bool:
        try:
            content = header_of(path)
        except Exception as error:  # pydicom's parser raises whatever a damaged file makes it meet
            log.warning("removal_not_finished", error=type(error).__name__)
            return False
        _replace(path, content)
        return True

    def _remove_results(
        self, days: float, reason: str, goes_on: Callable[[], bool] = lambda: True
    ) -> int:
        removed = 0
        while goes_on() and (some := self._results(days)):
            done = sum(self._remove_result(row, days, reason) for row in some if goes_on())
            removed += done
            if not done:
                break
        return removed

    def _results(self, days: float) -> Sequence[ResultObject]:
        statement = (
            select(ResultObject)
            .join(ResultSet, ResultSet.id == ResultObject.result_set_id)
            .join(Study, Study.id == ResultSet.study_id)
            .where(*self._result_may_go(days))
            .order_by(ResultObject.id)
            .limit(_AT_ONCE)
        )
        with self._store.reading() as session:
            return session.scalars(statement).all()

    def _result_may_go(self, days: float) -> tuple[ColumnElement[bool], ...]:
        limit = self._store.now() - timedelta(days=days)
        late = exists().where(
            Delivery.result_object_id == ResultObject.id, Delivery.delivered_at > limit
        )
        return (
            ResultObject.removed_at.is_(None),
            _is_quiet(self._store),
            self._is_proved,
            ~late.correlate(ResultObject),
        )

    def _remove_result(self, row: ResultObject, days: float, reason: str) -> bool:
        """Remove a result's file within the transaction that records it.

        The study is locked meanwhile, so that no new release keeps the same file beside us. A
        process that dies in between leaves a row without a file, which the next look records.
        """
        path = self._data_dir / row.file_path
        with self._store.writing() as session:
            study_id = session.scalar(
                select(ResultSet.study_id).where(ResultSet.id == row.result_set_id)
            )
            if study_id is None:
                return False
            _lock_study(session, study_id)
            may_go = session.scalar(
                select(ResultObject.id)
                .join(ResultSet, ResultSet.id == ResultObject.result_set_id)
                .join(Study, Study.id == ResultSet.study_id)
                .where(ResultObject.id == row.id, *self._result_may_go(days))
            )
            if may_go is None:
                return False
            session.execute(
                update(ResultObject)
                .where(ResultObject.id == row.id)
                .values(removed_at=self._store.now(), removal_reason=reason)
            )
            path.unlink(missing_ok=True)
        return True


def _lock_study(session: Session, study_id: int) -> str:
    return session.scalars(
        select(Study.study_instance_uid).where(Study.id == study_id).with_for_update()
    ).one()


def _replace(path: Path, content: bytes) -> None:
    """Replace an original; what a process left that died at the same is in nobody's way."""
    temporary = path.with_suffix(".part")
    temporary.unlink(missing_ok=True)
    write_durably(path, content, temporary)


def _is_quiet(store: Store) -> ColumnElement[bool]:
    """Return whether nothing is to be released of a study, and nobody builds it."""
    return and_(
        Study.release_due_at.is_(None), Study.release_problem == "", is_free(Study, store.now())
    )


def _proofs(destinations: Iterable[AnyDestination]) -> ColumnElement[bool]:
    """Return whether a result object's delivery is proved.

    One destination at least proved to hold it, and at no other it is still on its way or has
    failed. What was sent where nothing is ever proved (``proof = "none"``) is not on its way.
    """
    unproving = [d.name for d in destinations if d.proof == "none"]
    mine = Delivery.result_object_id == ResultObject.id
    held = exists().where(mine, Delivery.state == DeliveryState.DELIVERED.value)
    on_its_way = exists().where(
        mine,
        or_(
            Delivery.state.in_([state.value for state in _UNENDED]),
            and_(
                Delivery.state == DeliveryState.SENT.value, Delivery.destination.not_in(unproving)
            ),
        ),
    )
    return and_(held.correlate(ResultObject), ~on_its_way.correlate(ResultObject))


def header_of(path: Path) -> bytes:
    """Return a DICOM file without its pixels and other long binary values.

    Raises whatever pydicom's parser meets in a damaged file.
    """
    dataset = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    for element in [e for e in dataset if isinstance(e.value, bytes)]:
        if len(element.value) > _LONGEST_VALUE_BYTES:
            del dataset[element.tag]
    buffer = BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()
