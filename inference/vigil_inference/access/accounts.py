"""Local accounts: who they are, and whether a password is theirs."""

import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from vigil.errors import VigilError
from vigil_inference.access import passwords
from vigil_inference.access.account import EVERYBODY, Account
from vigil_inference.access.roles import Role
from vigil_inference.access.tables import NAME_LENGTH, AccountRow, SessionRow, roles_of
from vigil_inference.store import Store

FIRST_NAME = "admin"
_MARKS = frozenset(".-_@")


class AccountRefused(VigilError):
    """An account cannot be made or changed so; the code says why."""

    http_status = 422

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class AccountRecord:
    """An account as those who manage it see it."""

    account_id: int
    account: Account
    has_password: bool
    is_from_provider: bool
    """Whether an OpenID provider vouches for it."""
    must_change_password: bool
    is_disabled: bool
    created_at: datetime
    last_sign_in_at: datetime | None


def normal_name(name: str) -> str:
    """Return a name as it is kept: composed, in lower case.

    Raises
    ------
    AccountRefused
        If it is empty, long, taken by the system, or holds other signs than ``. - _ @``.
    """
    normal = unicodedata.normalize("NFKC", name).strip().casefold()
    if not 0 < len(normal) <= NAME_LENGTH:
        raise AccountRefused("NAME_LENGTH", f"a name has 1 to {NAME_LENGTH} characters")
    if not all(sign.isalnum() or sign in _MARKS for sign in normal):
        raise AccountRefused("NAME_SIGNS", "a name is of letters, digits and . - _ @")
    if normal == EVERYBODY.name:
        raise AccountRefused("NAME_RESERVED", f"{EVERYBODY.name} is what everybody is called")
    return normal


class Accounts:
    """The accounts of an installation."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(
        self, name: str, display_name: str, roles: Collection[Role], password: str = ""
    ) -> tuple[AccountRecord, str]:
        """Make an account and return it with its one-time password, "" if one was given.

        Raises
        ------
        AccountRefused
            If the name is taken or unusable.
        PasswordRefused
            If the password should not be taken.
        """
        name = normal_name(name)
        once = "" if password else passwords.one_time_password()
        if password:
            passwords.check_new(password, name)
        row = AccountRow(
            name=name,
            display_name=_one_line(display_name),
            roles=sorted(role.value for role in roles),
            password_hash=passwords.hash_password(password or once),
            must_change_password=bool(once),
            created_at=self._store.now(),
        )
        return self.insert(row), once

    def insert(self, row: AccountRow) -> AccountRecord:
        """Make an account of a row."""
        try:
            with self._store.writing() as session:
                session.add(row)
                session.flush()
                return _record(row)
        except IntegrityError as error:
            raise AccountRefused("NAME_TAKEN", f"there is an account {row.name} already") from error

    def add_first(self) -> str | None:
        """Make the administrator of a new installation; None where there are accounts already."""
        with self._store.reading() as session:
            if session.scalars(select(AccountRow.id).limit(1)).first() is not None:
                return None
        try:
            _, once = self.add(FIRST_NAME, "", {Role.ADMINISTRATOR})
        except AccountRefused:  # another node was faster
            return None
        return once

    def all(self) -> list[AccountRecord]:
        """Return all, by name."""
        with self._store.reading() as session:
            rows = session.scalars(select(AccountRow).order_by(AccountRow.name)).all()
        return [_record(row) for row in rows]

    def find(self, name: str) -> AccountRecord:
        """Return one.

        Raises
        ------
        AccountRefused
            If there is none of this name.
        """
        with self._store.reading() as session:
            return _record(_row(session, name))

    def known_name(self, name: str) -> str:
        """Return a name as it is kept, "" if there is no such account.

        What was typed as a name may be a password: nothing else of it is written anywhere.
        """
        try:
            return self.find(name).account.name
        except AccountRefused:
            return ""

    def check_password(self, name: str, password: str) -> AccountRecord | None:
        """Return the account whose password it is; None, after as long, if there is none."""
        try:
            normal = normal_name(name)
        except AccountRefused:
            normal = ""
        with self._store.reading() as session:
            row = session.scalars(select(AccountRow).where(AccountRow.name == normal)).one_or_none()
        is_right = passwords.verify(row.password_hash if row is not None else "", password)
        if row is None or row.is_disabled or not is_right:
            return None
        if passwords.is_outdated(row.password_hash):
            self._change(row.name, password_hash=passwords.hash_password(password))
        return _record(row)

    def set_password(self, name: str, password: str = "") -> str:
        """Set a password, or a one-time one, which is returned; every session of it ends."""
        name = normal_name(name)
        once = "" if password else passwords.one_time_password()
        if password:
            passwords.check_new(password, name)
        hashed = passwords.hash_password(password or once)
        self._change(name, password_hash=hashed, must_change_password=bool(once))
        self.end_sessions(name)
        return once

    def set_roles(self, name: str, roles: Collection[Role]) -> None:
        """Say what somebody is from now on."""
        self._change(name, roles=sorted(role.value for role in roles))

    def set_disabled(self, name: str, is_disabled: bool) -> None:
        """Let somebody in no more, or again."""
        self._change(name, is_disabled=is_disabled)
        if is_disabled:
            self.end_sessions(name)

    def end_sessions(self, name: str) -> None:
        """End every session of an account."""
        with self._store.writing() as session:
            session.execute(
                update(SessionRow)
                .where(
                    SessionRow.account_id == _row(session, name).id, SessionRow.ended_at.is_(None)
                )
                .values(ended_at=self._store.now())
            )

    def _change(self, name: str, **values: object) -> None:
        with self._store.writing() as session:
            row = _row(session, name)
            for column, value in values.items():
                setattr(row, column, value)


def _row(session: Session, name: str) -> AccountRow:
    row = session.scalars(
        select(AccountRow).where(AccountRow.name == normal_name(name))
    ).one_or_none()
    if row is None:
        raise AccountRefused("ACCOUNT_UNKNOWN", f"there is no account {normal_name(name)}")
    return row


def account_of(row: AccountRow) -> Account:
    """Return an account as requests carry it."""
    return Account(row.name, row.display_name, roles_of(row.roles))


def _record(row: AccountRow) -> AccountRecord:
    return AccountRecord(
        row.id,
        account_of(row),
        has_password=bool(row.password_hash),
        is_from_provider=row.oidc_subject is not None,
        must_change_password=bool(row.must_change_password),
        is_disabled=bool(row.is_disabled),
        created_at=row.created_at,
        last_sign_in_at=row.last_sign_in_at,
    )


def _one_line(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())[:200]
