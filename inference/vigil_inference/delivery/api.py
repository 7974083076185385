"""The HTTP interface of deliveries: where results are on their way, and to try again or to stop."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from vigil.errors import VigilError
from vigil_inference.access.account import require
from vigil_inference.access.roles import Permission
from vigil_inference.delivery.desk import DeliveryRow, Selection
from vigil_inference.delivery.states import DeliveryState
from vigil_inference.service import Service

router = APIRouter(prefix="/api/deliveries", tags=["Deliveries"])
_CHANGE = [Depends(require(Permission.CHANGE_DELIVERIES))]


class NothingMeant(VigilError):
    """A request to change deliveries says of none which."""

    code = "NOTHING_MEANT"
    http_status = 422


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class DeliveryView(_View):
    """One object, or one study's message, on its way to one destination."""

    id: int
    study_instance_uid: str
    destination: str
    kind: Literal["report", "capture", "key_objects", "message"]
    sop_instance_uid: str = Field(description="Empty for a message.")
    release: int = Field(description="Which of the study's releases it belongs to, from 1.")
    state: DeliveryState
    attempts: int
    code: str = Field(description="What the last step met, as a stable word.")
    reason: str
    created_at: datetime
    due_at: datetime | None = Field(description="When it is tried next, while it is pending.")
    sent_at: datetime | None = Field(description="When the destination acknowledged it.")
    delivered_at: datetime | None = Field(description="When it was proved to be held.")


class DeliveryPage(_View):
    """A page of deliveries, the newest first."""

    counts: dict[DeliveryState, int] = Field(description="By state, over all pages.")
    deliveries: tuple[DeliveryView, ...]


class DeliveryChange(_View):
    """Which deliveries to change: by their numbers, or all of a destination's that failed."""

    model_config = ConfigDict(extra="forbid")

    ids: tuple[int, ...] = Field((), max_length=10_000)
    destination: str = ""
    study_instance_uid: str = ""

    def selection(self) -> Selection:
        """Return what is meant.

        Raises
        ------
        NothingMeant
            If it is everything: too much to be meant by an empty request.
        """
        if not (self.ids or self.destination or self.study_instance_uid):
            raise NothingMeant("expected ids, a destination or a study_instance_uid")
        return Selection(
            ids=self.ids,
            destination=self.destination,
            study_instance_uid=self.study_instance_uid,
        )


class DeliveriesChanged(_View):
    """The numbers of the deliveries that were changed."""

    ids: tuple[int, ...]


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Running = Annotated[Service, Depends(_service)]


@router.get("", dependencies=[Depends(require(Permission.SEE_OPERATIONS))])
def get_deliveries(
    service: Running,
    state: Annotated[tuple[DeliveryState, ...], Query()] = (),
    destination: str = "",
    study_instance_uid: str = "",
    offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> DeliveryPage:
    """List deliveries with their states; `SENT` is acknowledged, `DELIVERED` is proved."""
    desk = service.delivery.desk
    selection = Selection(
        states=state, destination=destination, study_instance_uid=study_instance_uid
    )
    rows = desk.rows(selection, limit=limit, offset=offset)
    return DeliveryPage(
        counts=desk.counts(selection), deliveries=tuple(view_of(row) for row in rows)
    )


# A body of JSON is asked for on purpose: a foreign page cannot send one without asking first.
@router.post("/retry", dependencies=_CHANGE)
def retry_deliveries(service: Running, change: DeliveryChange) -> DeliveriesChanged:
    """Send again what failed or was cancelled; by its number also what waits or arrived."""
    return DeliveriesChanged(ids=tuple(service.delivery.desk.retry(change.selection())))


@router.post("/cancel", dependencies=_CHANGE)
def cancel_deliveries(service: Running, change: DeliveryChange) -> DeliveriesChanged:
    """Send no more of what waits or has failed."""
    return DeliveriesChanged(ids=tuple(service.delivery.desk.cancel(change.selection())))


def view_of(row: DeliveryRow) -> DeliveryView:
    """Return a delivery as the interface says it."""
    return DeliveryView.model_validate(row, from_attributes=True)
