"""The audit trail over HTTP, for those who may see it."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from vigil_inference.access.account import require
from vigil_inference.access.roles import Permission
from vigil_inference.audit.chain import verify
from vigil_inference.audit.tables import AuditHead, AuditRow
from vigil_inference.service import Service

router = APIRouter(tags=["Accounts"])


class AuditView(BaseModel):
    """Something that somebody saw or did."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    id: int = Field(description="Its place in the chain, from 1 without a gap.")
    at: datetime
    account: str
    action: str
    study_instance_uid: str
    outcome: int = Field(description="The HTTP status of the answer; 0 for a command.")
    detail: str
    address: str
    sha256: str = Field(description="Over the event before it and this one.")


class AuditPage(BaseModel):
    """A page of the audit trail, the newest first."""

    model_config = ConfigDict(frozen=True)

    last_id: int = Field(description="How many events there are.")
    sha256: str = Field(description="The last event's seal: note it elsewhere.")
    events: tuple[AuditView, ...]


class AuditVerification(BaseModel):
    """Whether each event is still where it was written."""

    model_config = ConfigDict(frozen=True)

    problems: tuple[str, ...] = Field(description="A sentence for each place that does not hold.")
    last_id: int
    sha256: str


@router.get("/api/audit", dependencies=[Depends(require(Permission.SEE_AUDIT_TRAIL))])
def get_audit_trail(
    request: Request,
    account: Annotated[str, Query(max_length=80)] = "",
    action: Annotated[str, Query(max_length=64)] = "",
    study_instance_uid: Annotated[str, Query(max_length=64)] = "",
    before: Annotated[int, Query(ge=1, le=2**62, description="Events before this one.")] = 2**62,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> AuditPage:
    """Return who saw and did what, the newest first."""
    service: Service = request.app.state.service
    service.audit.flush()
    wanted = select(AuditRow).where(AuditRow.id < before)
    for column, value in (
        (AuditRow.account, account),
        (AuditRow.action, action),
        (AuditRow.study_instance_uid, study_instance_uid),
    ):
        if value:
            wanted = wanted.where(column == value)
    with service.store.reading() as session:
        head = session.scalars(select(AuditHead)).one()
        rows = session.scalars(wanted.order_by(AuditRow.id.desc()).limit(limit)).all()
    return AuditPage(
        last_id=head.last_id,
        sha256=head.sha256,
        events=tuple(AuditView.model_validate(row) for row in rows),
    )


@router.get("/api/audit/verification", dependencies=[Depends(require(Permission.SEE_AUDIT_TRAIL))])
def get_audit_verification(request: Request) -> AuditVerification:
    """Look for events that were changed, removed, moved or cut off; it reads all of them."""
    service: Service = request.app.state.service
    service.audit.flush()
    with service.store.reading() as session:
        problems, last_id, sha256 = verify(session)
    return AuditVerification(problems=tuple(problems), last_id=last_id, sha256=sha256)
