"""What the database says of stages and of shadow work, for metrics and the status."""

from dataclasses import dataclass, field

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from vigil_inference.promotion.queue import FAILED, READ, Pair, count_unread
from vigil_inference.promotion.record import Entry, models_of
from vigil_inference.promotion.stages import Stage
from vigil_inference.promotion.tables import ShadowReading


@dataclass(frozen=True)
class ModelFigures:
    """The bundles that are at work here, and how far shadow work is."""

    at_work: tuple[Entry, ...] = ()
    """In shadow, under supervision or live."""
    read: int = 0
    """Pictures that were read in shadow, by whichever bundle."""
    failed: int = 0
    dropped: int = 0
    backlog: int = 0
    """Pictures that wait for the bundle in shadow now."""
    shadow: Entry | None = field(default=None)


def read_model_figures(session: Session) -> ModelFigures:
    """Look at the record, and count."""
    models = models_of(session)
    rows = session.execute(select(ShadowReading.state, func.count()).group_by(ShadowReading.state))
    counts = {row[0]: row[1] for row in rows}
    shadow, serving = models.shadow, models.serving
    backlog = 0
    if shadow is not None and serving is not None:
        backlog = count_unread(session, Pair(shadow, serving, models.is_supervised))
    return ModelFigures(
        at_work=tuple(entry for entry in models.entries if entry.stage is not Stage.RETIRED),
        read=counts.get(READ, 0),
        failed=counts.get(FAILED, 0),
        dropped=sum(entry.dropped for entry in models.entries),
        backlog=backlog,
        shadow=shadow,
    )
