"""The tables of accounts, their sessions, and machines' tokens: hashes only, no secret."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from vigil_inference.access.roles import Role
from vigil_inference.tables import Base, UtcDateTime

NAME_LENGTH = 64
_Key = BigInteger().with_variant(Integer, "sqlite")


def roles_of(written: Any) -> frozenset[Role]:
    """Return the roles that a row names; one that this version does not know gives nothing."""
    known = {role.value for role in Role}
    return frozenset(Role(name) for name in written if name in known)


class AccountRow(Base):
    """A person who may sign in."""

    __tablename__ = "accounts"
    __table_args__ = (Index("ix_accounts_oidc", "oidc_issuer", "oidc_subject", unique=True),)

    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH), unique=True)
    """In its normal form, see ``accounts.normal_name``."""
    display_name: Mapped[str] = mapped_column(Text, default="")
    roles: Mapped[list[str]] = mapped_column(JSON)
    password_hash: Mapped[str] = mapped_column(Text, default="")
    """Argon2id with its parameters; "" for who signs in elsewhere."""
    must_change_password: Mapped[bool] = mapped_column(Boolean, default=False)
    is_disabled: Mapped[bool] = mapped_column(Boolean, default=False)
    oidc_issuer: Mapped[str | None] = mapped_column(Text)
    oidc_subject: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    last_sign_in_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class SessionRow(Base):
    """Somebody's signing in, until it ends."""

    __tablename__ = "sessions"

    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    secret_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    account_id: Mapped[int] = mapped_column(
        ForeignKey("accounts.id", ondelete="CASCADE"), index=True
    )
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """When its owner last did something, to the minute."""
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class TokenRow(Base):
    """A machine's way in."""

    __tablename__ = "tokens"

    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH), unique=True)
    secret_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    roles: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
