"""What the interface says of the record."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

import vigil
from vigil_inference.promotion.record import SiteModels
from vigil_inference.promotion.stages import Action, Stage


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class BundleView(_View):
    """A bundle that this site knows."""

    bundle_id: str
    bundle_digest: str
    stage: Stage
    since: datetime
    site_calibration: str = Field(description="Its name and digest; empty: the bundle's own.")
    shadow_dropped: int = Field(description="Pictures that were passed over in shadow.")


class MoveView(_View):
    """One bundle's step within a change."""

    bundle_id: str
    bundle_digest: str
    from_stage: str = Field(description="Empty where the record did not know it.")
    to_stage: Stage


class ChangeView(_View):
    """A change of the record."""

    number: int
    made_at: datetime
    made_by: str
    action: Action
    reason: str
    set_aside: str = Field(description="What spoke against it and was set aside; empty: nothing.")
    moves: tuple[MoveView, ...]


class RecordView(_View):
    """Which bundle is at which stage, and how that came."""

    decided: bool = Field(description="Whether nodes follow it, and no longer their settings.")
    bundles: tuple[BundleView, ...]
    changes: tuple[ChangeView, ...] = Field(description="The oldest first; none is ever removed.")
    notice: str = vigil.RESEARCH_USE


def record_view(models: SiteModels) -> RecordView:
    """Return the record as the interface says it."""
    return RecordView(
        decided=models.is_decided,
        bundles=tuple(
            BundleView(
                bundle_id=entry.bundle_id,
                bundle_digest=entry.digest,
                stage=entry.stage,
                since=entry.since,
                site_calibration=entry.calibration_name,
                shadow_dropped=entry.dropped,
            )
            for entry in models.entries
        ),
        changes=tuple(
            ChangeView(
                number=change.number,
                made_at=change.made_at,
                made_by=change.made_by,
                action=change.action,
                reason=change.reason,
                set_aside=change.set_aside,
                moves=tuple(
                    MoveView(
                        bundle_id=move.bundle_id,
                        bundle_digest=move.digest,
                        from_stage=move.from_stage,
                        to_stage=move.to_stage,
                    )
                    for move in change.moves
                ),
            )
            for change in models.changes
        ),
    )
