"""The site's record: which bundle is at which stage, since when, by whom and why.

All nodes share it through the database. Whoever changes it says which state the decision rests on:
each change has the next number, and of two at once the second finds its number taken.
"""

import getpass
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from vigil_inference.promotion.stages import BY_A_PERSON, SERVING, Action, RecordMoved, Stage
from vigil_inference.promotion.tables import ModelBundle, ModelChange
from vigil_inference.store import Store


@dataclass(frozen=True)
class Entry:
    """A bundle of the record."""

    digest: str
    bundle_id: str
    stage: Stage
    since: datetime
    source: str = ""
    calibration_name: str = ""
    calibration_digest: str = ""
    calibration_source: str = ""
    dropped: int = 0

    @property
    def name(self) -> str:
        """How people call it."""
        return f"{self.bundle_id} {self.digest[:12]}"

    @property
    def key(self) -> tuple[str, str]:
        """What makes it another model: the bundle, and its site calibration."""
        return self.digest, self.calibration_digest


@dataclass(frozen=True)
class Move:
    """One bundle's step within a change."""

    digest: str
    bundle_id: str
    from_stage: str
    """"" where the record did not know it."""
    to_stage: Stage


@dataclass(frozen=True)
class Change:
    """A change of the record."""

    number: int
    made_at: datetime
    made_by: str
    action: Action
    digest: str
    bundle_id: str
    reason: str
    moves: tuple[Move, ...]
    calibration_name: str = ""
    set_aside: str = ""


@dataclass(frozen=True)
class Decision:
    """A change that somebody wants.

    Attributes
    ----------
    after
        Number of the last change that it rests on.
    entries
        The bundles that it moves, as they shall be; ``since`` is set when it is written.
    """

    after: int
    action: Action
    made_by: str
    reason: str
    entry: Entry
    others: tuple[Entry, ...] = ()
    set_aside: str = ""


@dataclass(frozen=True)
class SiteModels:
    """The record at one moment."""

    entries: tuple[Entry, ...] = ()
    changes: tuple[Change, ...] = field(default=(), repr=False)

    @property
    def number(self) -> int:
        """Of the last change, 0 without any."""
        return self.changes[-1].number if self.changes else 0

    @property
    def is_decided(self) -> bool:
        """Whether a person has changed it, so that nodes follow it."""
        return any(change.action in BY_A_PERSON for change in self.changes)

    @property
    def serving(self) -> Entry | None:
        """The bundle whose results are shown."""
        found = [entry for entry in self.entries if entry.stage in SERVING]
        return found[0] if found else None

    @property
    def shadow(self) -> Entry | None:
        """The bundle that reads silently beside it."""
        return next((entry for entry in self.entries if entry.stage is Stage.SHADOW), None)

    @property
    def is_supervised(self) -> bool:
        """Whether the serving bundle is under supervision."""
        serving = self.serving
        return serving is not None and serving.stage is Stage.SUPERVISED

    @property
    def former(self) -> Entry | None:
        """The live bundle that a rollback goes back to.

        A bundle from which there was a rollback is none.
        """
        line: list[str] = []
        for change in self.changes:
            moved = {move.digest: move for move in change.moves}
            for move in change.moves:
                if change.action is Action.ROLLBACK and move.from_stage == Stage.LIVE.value:
                    line = [digest for digest in line if digest != move.digest]
            if change.action in (Action.SETTING, Action.PROMOTE):
                line += [
                    digest
                    for digest, move in moved.items()
                    if move.to_stage is Stage.LIVE and digest not in line[-1:]
                ]
        serving = self.serving
        for digest in reversed(line):
            if serving is None or digest != serving.digest:
                return self.find(digest)
        return None

    def find(self, digest: str) -> Entry | None:
        """Return a bundle by its whole digest."""
        return next((entry for entry in self.entries if entry.digest == digest), None)


def operating_system_user() -> str:
    """Return who runs this command, and where."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def last_number(session: Session) -> int:
    """Return the number of the last change."""
    return session.scalar(select(func.max(ModelChange.number))) or 0


def read_models(store: Store) -> SiteModels:
    """Return the record as it stands."""
    with store.reading() as session:
        return models_of(session)


def models_of(session: Session) -> SiteModels:
    """Return the record within a session."""
    rows = session.scalars(select(ModelBundle).order_by(ModelBundle.since, ModelBundle.digest))
    entries = tuple(
        Entry(
            row.digest,
            row.bundle_id,
            Stage(row.stage),
            row.since,
            row.source,
            row.calibration_name,
            row.calibration_digest,
            row.calibration_source,
            row.shadow_dropped,
        )
        for row in rows
    )
    changes = tuple(
        _change(row) for row in session.scalars(select(ModelChange).order_by(ModelChange.number))
    )
    return SiteModels(entries, changes)


def write_decision(store: Store, decision: Decision) -> Change:
    """Write a change and the stages that come of it, in one transaction.

    Raises
    ------
    RecordMoved
        If somebody else changed the record since ``decision.after``.
    """
    now = store.now()
    number = decision.after + 1
    try:
        with store.writing() as session:
            row = ModelChange(
                number=number,
                made_at=now,
                made_by=decision.made_by,
                action=decision.action.value,
                digest=decision.entry.digest,
                bundle_id=decision.entry.bundle_id,
                calibration_name=decision.entry.calibration_name,
                reason=decision.reason,
                set_aside=decision.set_aside,
                moves=[],
            )
            session.add(row)
            session.flush()  # whoever has the number goes on alone
            row.moves = _move(session, (decision.entry, *decision.others), now)
            session.flush()
            change = _change(row)
    except IntegrityError as error:
        with store.reading() as session:
            raise _overtaken(session, decision) from error
    return change


def _overtaken(session: Session, decision: Decision) -> RecordMoved:
    newer = session.scalars(
        select(ModelChange).where(ModelChange.number > decision.after).order_by(ModelChange.number)
    ).all()
    said = "; ".join(
        f"{row.made_by}: {row.action} {row.bundle_id} {row.digest[:12]} ({row.reason})"
        for row in newer
    )
    return RecordMoved(
        f"the record was changed meanwhile ({said}), so nothing was done; look at `vigil models "
        "stage` and decide again"
    )


def _move(session: Session, entries: Sequence[Entry], now: datetime) -> list[dict[str, str]]:
    moves = []
    for entry in entries:
        row = session.get(ModelBundle, entry.digest)
        before = "" if row is None else row.stage
        if row is None:
            row = ModelBundle(digest=entry.digest, shadow_dropped=0)
            session.add(row)
        row.bundle_id = entry.bundle_id
        row.source = entry.source
        row.calibration_name = entry.calibration_name
        row.calibration_digest = entry.calibration_digest
        row.calibration_source = entry.calibration_source
        if before != entry.stage.value:
            row.stage, row.since = entry.stage.value, now
            row.shadow_cursor = now if entry.stage is Stage.SHADOW else None
            moves.append(
                {
                    "digest": entry.digest,
                    "bundle_id": entry.bundle_id,
                    "from_stage": before,
                    "to_stage": entry.stage.value,
                }
            )
    return moves


def _change(row: ModelChange) -> Change:
    return Change(
        row.number,
        row.made_at,
        row.made_by,
        Action(row.action),
        row.digest,
        row.bundle_id,
        row.reason,
        tuple(
            Move(move["digest"], move["bundle_id"], move["from_stage"], Stage(move["to_stage"]))
            for move in row.moves
        ),
        row.calibration_name,
        row.set_aside,
    )
