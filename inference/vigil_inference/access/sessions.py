"""Sessions of people: opened by signing in, carried by a cookie, ended by time or by somebody.

The cookie's secret is random and only its hash is kept, so that a stolen database lets nobody in.
What the database said is believed for two seconds: a worklist asks for a hundred thumbnails at
once, and what is ended here is ended at once anyway.
"""

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import delete, select, update

from vigil_inference.access.account import Account
from vigil_inference.access.accounts import account_of
from vigil_inference.access.tables import AccountRow, SessionRow
from vigil_inference.store import Store

BELIEVED_SECONDS = 2.0
_SEEN_EACH = timedelta(minutes=1)
_KEPT = timedelta(days=1)
_MOST_REMEMBERED = 4096


@dataclass(frozen=True)
class OpenSession:
    """A session that has not ended.

    Attributes
    ----------
    session_id
        Its number in the database.
    account
        Whose it is.
    must_change_password
        Whether it was opened with a one-time password, and allows nothing else but to change it.
    csrf_token
        What the page sends with each change, and a foreign page cannot know.
    ends_at
        When it ends, whatever its owner does.
    """

    session_id: int
    account: Account
    must_change_password: bool
    csrf_token: str
    started_at: datetime
    seen_at: datetime
    ends_at: datetime


class Sessions:
    """The sessions of an installation, on all its nodes.

    Parameters
    ----------
    store
        Where they are kept.
    idle
        How long its owner may do nothing.
    longest
        How long one lasts at most.
    """

    def __init__(self, store: Store, idle: timedelta, longest: timedelta) -> None:
        self._store = store
        self._idle = idle
        self._longest = longest
        self._lock = threading.Lock()
        self._believed: OrderedDict[str, tuple[float, OpenSession]] = OrderedDict()

    def open(self, account_id: int) -> str:
        """Open one and return its secret; those that ended long ago are forgotten."""
        secret = secrets.token_urlsafe(32)
        now = self._store.now()
        with self._store.writing() as session:
            session.execute(
                delete(SessionRow).where(SessionRow.started_at < now - self._longest - _KEPT)
            )
            session.add(
                SessionRow(
                    secret_sha256=digest_of(secret),
                    account_id=account_id,
                    started_at=now,
                    seen_at=now,
                )
            )
            session.execute(
                update(AccountRow).where(AccountRow.id == account_id).values(last_sign_in_at=now)
            )
        return secret

    def recall(self, secret: str, *, is_activity: bool = False) -> OpenSession | None:
        """Return what was found a moment ago, None where the database must be asked."""
        with self._lock:
            found = self._believed.get(digest_of(secret))
        if found is None or time.monotonic() - found[0] > BELIEVED_SECONDS:
            return None
        if is_activity and self._store.now() - found[1].seen_at > _SEEN_EACH:
            return None
        return found[1] if self._is_open(found[1]) else None

    def find(self, secret: str, *, is_activity: bool = False) -> OpenSession | None:
        """Return the session of a secret, None if there is none or it has ended.

        Parameters
        ----------
        secret
            What the cookie holds.
        is_activity
            Whether its owner did something just now, so that it is idle no more.
        """
        digest, now = digest_of(secret), self._store.now()
        with self._store.reading() as session:
            row = session.execute(
                select(SessionRow, AccountRow)
                .join(AccountRow, AccountRow.id == SessionRow.account_id)
                .where(SessionRow.secret_sha256 == digest, SessionRow.ended_at.is_(None))
            ).one_or_none()
        if row is None or row.AccountRow.is_disabled:
            self._forget(digest)
            return None
        found = OpenSession(
            row.SessionRow.id,
            account_of(row.AccountRow),
            bool(row.AccountRow.must_change_password),
            csrf_token_of(secret),
            row.SessionRow.started_at,
            row.SessionRow.seen_at,
            row.SessionRow.started_at + self._longest,
        )
        if not self._is_open(found):
            self._forget(digest)
            return None
        if is_activity and now - found.seen_at > _SEEN_EACH:
            with self._store.writing() as session:
                session.execute(
                    update(SessionRow).where(SessionRow.id == found.session_id).values(seen_at=now)
                )
            found = replace(found, seen_at=now)
        with self._lock:
            self._believed[digest] = (time.monotonic(), found)
            self._believed.move_to_end(digest)
            while len(self._believed) > _MOST_REMEMBERED:
                self._believed.popitem(last=False)
        return found

    def end(self, secret: str) -> None:
        """End one: its owner signs out."""
        digest = digest_of(secret)
        with self._store.writing() as session:
            session.execute(
                update(SessionRow)
                .where(SessionRow.secret_sha256 == digest, SessionRow.ended_at.is_(None))
                .values(ended_at=self._store.now())
            )
        self._forget(digest)

    def forget_all(self) -> None:
        """Ask the database again: accounts were changed here."""
        with self._lock:
            self._believed.clear()

    def _forget(self, digest: str) -> None:
        with self._lock:
            self._believed.pop(digest, None)

    def _is_open(self, found: OpenSession) -> bool:
        now = self._store.now()
        return now < found.ends_at and now - found.seen_at < self._idle


def digest_of(secret: str) -> str:
    """Return what is kept of a random secret; it needs no slow hash, nobody can guess it."""
    return hashlib.sha256(secret.encode()).hexdigest()


def csrf_token_of(secret: str) -> str:
    """Return what a session's page sends along; it does not tell the session's secret."""
    return hmac.new(secret.encode(), b"vigil-csrf", hashlib.sha256).hexdigest()
