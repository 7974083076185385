"""Tokens of machines: named, with roles and an end; made and revoked on the command line."""

import secrets
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from vigil_inference.access.account import Account, SignInRequired, TokenExpired
from vigil_inference.access.accounts import AccountRefused, normal_name
from vigil_inference.access.roles import Role
from vigil_inference.access.sessions import BELIEVED_SECONDS, digest_of
from vigil_inference.access.tables import TokenRow, roles_of
from vigil_inference.store import Store

PREFIX = "vigil_"
"""By which a secret scanner knows one."""
ACCOUNT_PREFIX = "token:"
_USED_EACH = timedelta(minutes=1)
_MOST_REMEMBERED = 1024


@dataclass(frozen=True)
class TokenRecord:
    """A token as those who manage it see it; the secret is nowhere."""

    name: str
    roles: frozenset[Role]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class Tokens:
    """The tokens of an installation."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._believed: dict[str, tuple[float, Account, datetime | None]] = {}

    def create(self, name: str, roles: Collection[Role], lasts: timedelta | None) -> str:
        """Make one and return its secret, which is shown this once.

        Raises
        ------
        AccountRefused
            If the name is taken or unusable.
        """
        secret = PREFIX + secrets.token_urlsafe(32)
        now = self._store.now()
        row = TokenRow(
            name=normal_name(name),
            secret_sha256=digest_of(secret),
            roles=sorted(role.value for role in roles),
            created_at=now,
            expires_at=None if lasts is None else now + lasts,
        )
        try:
            with self._store.writing() as session:
                session.add(row)
        except IntegrityError as error:
            raise AccountRefused("NAME_TAKEN", f"there is a token {name} already") from error
        return secret

    def all(self) -> list[TokenRecord]:
        """Return all, by name."""
        with self._store.reading() as session:
            rows = session.scalars(select(TokenRow).order_by(TokenRow.name)).all()
        return [
            TokenRecord(
                row.name,
                roles_of(row.roles),
                row.created_at,
                row.expires_at,
                row.last_used_at,
                row.revoked_at,
            )
            for row in rows
        ]

    def revoke(self, name: str) -> None:
        """Let it in no more.

        Raises
        ------
        AccountRefused
            If there is none of this name.
        """
        with self._store.writing() as session:
            row = session.scalars(
                select(TokenRow).where(TokenRow.name == normal_name(name))
            ).one_or_none()
            if row is None:
                raise AccountRefused("TOKEN_UNKNOWN", f"there is no token {name}")
            row.revoked_at = row.revoked_at or self._store.now()
        with self._lock:
            self._believed.clear()

    def recall(self, secret: str) -> Account | None:
        """Return what was found a moment ago, without asking the database."""
        with self._lock:
            found = self._believed.get(digest_of(secret))
        if found is None:
            return None
        at, account, expires_at = found
        late = expires_at is not None and self._store.now() >= expires_at
        return None if late or time.monotonic() - at > BELIEVED_SECONDS else account

    def find(self, secret: str) -> Account:
        """Return the account of a token.

        Raises
        ------
        SignInRequired
            If there is no such token.
        TokenExpired
            If its time is over, or it was revoked.
        """
        digest, now = digest_of(secret), self._store.now()
        with self._store.reading() as session:
            row = session.scalars(
                select(TokenRow).where(TokenRow.secret_sha256 == digest)
            ).one_or_none()
        if row is None:
            raise SignInRequired("there is no such token")
        if row.revoked_at is not None or (row.expires_at is not None and now >= row.expires_at):
            raise TokenExpired("the token's time is over, or it was revoked")
        if row.last_used_at is None or now - row.last_used_at > _USED_EACH:
            with self._store.writing() as session:
                session.execute(
                    update(TokenRow).where(TokenRow.id == row.id).values(last_used_at=now)
                )
        account = Account(f"{ACCOUNT_PREFIX}{row.name}", "", roles_of(row.roles))
        with self._lock:
            if len(self._believed) >= _MOST_REMEMBERED:
                self._believed.clear()
            self._believed[digest] = (time.monotonic(), account, row.expires_at)
        return account
