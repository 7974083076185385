"""What of a request goes into the audit trail, and when."""

import re
from dataclasses import replace
from http import HTTPStatus

import structlog
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import Message, Scope, Send

from vigil.errors import VigilError
from vigil_inference.access.account import Requirement
from vigil_inference.access.roles import Permission
from vigil_inference.audit.trail import AuditEvent, AuditTrail
from vigil_inference.problems import problem_response

log = structlog.get_logger(__name__)

READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_UID = re.compile(r"[0-9.]{1,64}")


def action_of(name: str, path: str, method: str, requirement: Requirement) -> str:
    """Return what a request is called in the trail, "" for one that is not recorded.

    A change is called by its route's name.
    """
    if method not in READING_METHODS:
        return name
    permission = requirement.permission
    if permission in (Permission.EXPORT_READINGS, Permission.SEE_AUDIT_TRAIL):
        return name
    if path.startswith("/dicomweb/"):
        return "dicomweb_searched" if name.startswith("search") else "dicomweb_retrieved"
    if "{study_instance_uid}" in path and permission is not None:
        if "/results" in path:
            return "results_fetched"
        return "picture_seen" if permission is Permission.SEE_PICTURES else "study_opened"
    return "worklist_seen" if path == "/api/worklist" else ""


def study_of(scope_match: re.Match[str]) -> str:
    """Return the study that a path names, "" where it names none or what stands there is no UID."""
    uid = scope_match.groupdict().get("study_instance_uid") or ""
    return uid if _UID.fullmatch(uid) else ""


class Recorder:
    """Stands between the application and the answer, and records it.

    Parameters
    ----------
    trail
        Where to.
    scope
        Of the request; its state says whose it is once it was let in.
    action, study_instance_uid
        What it is.
    send
        Where the answer goes.
    """

    def __init__(
        self, trail: AuditTrail, scope: Scope, action: str, study_instance_uid: str, send: Send
    ) -> None:
        self._trail = trail
        self._scope = scope
        self._action = action
        self._study = study_instance_uid
        self._send = send
        self._withheld = False

    def refused(self, refusal: VigilError) -> None:
        """Record that somebody who is known tried what is not allowed."""
        if self._scope["state"]["account"].name:
            event = replace(self.event(refusal.http_status), detail=refusal.code)
            self._trail.note_once(event, f"{self.session()} {refusal.code}")

    def event(self, status: int) -> AuditEvent:
        """Return what is recorded of an answer."""
        state, client = self._scope["state"], self._scope.get("client")
        return AuditEvent(
            state.get("audit_account", state["account"].name),
            self._action,
            self._study,
            status,
            state.get("audit_detail", ""),
            client[0] if client else "",
        )

    def session(self) -> str:
        """Return what tells this sitting from another of the same account."""
        session = self._scope["state"].get("session")
        return str(session.session_id) if session is not None else ""

    async def __call__(self, message: Message) -> None:
        """Pass a part of the answer on; a change's answer waits until it is recorded."""
        if self._withheld:
            return
        if message["type"] == "http.response.start":
            status = int(message["status"])
            event = self.event(status)
            if self._scope["method"] not in READING_METHODS:
                try:
                    await run_in_threadpool(self._trail.append, event)
                except (SQLAlchemyError, TimeoutError) as error:
                    log.error("audit_not_written", error=type(error).__name__)
                    self._trail.note(event)
                    self._withheld = True
                    answer = problem_response(
                        503, "DATABASE_UNAVAILABLE", "what was done could not be recorded"
                    )
                    await answer(self._scope, _no_body, self._send)
                    return
            elif status < HTTPStatus.BAD_REQUEST:
                self._trail.note_once(event, self.session())
        await self._send(message)


async def _no_body() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}
