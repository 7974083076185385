"""Who asks: the account behind a request, what it may do, and what a route asks of it."""

from dataclasses import dataclass

from fastapi import Request

from vigil.errors import VigilError
from vigil_inference.access.roles import ALLOWED, Permission, Role


class NotAllowed(VigilError):
    """The account may not do this."""

    code = "NOT_ALLOWED"
    http_status = 403


class SignInRequired(VigilError):
    """Nobody is signed in, or no longer; the code says which."""

    code = "SIGN_IN_REQUIRED"
    http_status = 401


class SessionExpired(SignInRequired):
    """The session has ended: signed out, too long idle, or too old."""

    code = "SESSION_EXPIRED"


class TokenExpired(SignInRequired):
    """The token's time is over, or it was revoked."""

    code = "TOKEN_EXPIRED"


class PasswordChangeRequired(VigilError):
    """Nothing else is allowed until a one-time password was replaced."""

    code = "PASSWORD_CHANGE_REQUIRED"
    http_status = 403


@dataclass(frozen=True)
class Account:
    """Whoever is signed in, or a machine with a token.

    Attributes
    ----------
    name
        Its name in this installation, unique; what records and the audit trail keep.
    display_name
        As people read it: ``BS. Trần Thị Hạnh``.
    roles
        What it is; empty where nobody is signed in.
    """

    name: str
    display_name: str
    roles: frozenset[Role]

    def may(self, permission: Permission) -> bool:
        """Whether one of its roles allows this."""
        return any(permission in ALLOWED[role] for role in self.roles)


EVERYBODY = Account("local", "", frozenset(Role))
"""Who asks where the installation has no accounts."""

NOBODY = Account("", "", frozenset())
"""Who asks where nobody is signed in."""


def current_account(request: Request) -> Account:
    """Return the account behind a request, as the gate before the application found it."""
    account: Account = getattr(request.state, "account", NOBODY)
    return account


@dataclass(frozen=True)
class Requirement:
    """What a route asks; a dependency that yields the account, or refuses the request.

    Attributes
    ----------
    permission
        What the account must be allowed; None where being signed in is enough.
    is_open
        Whether nobody need be signed in.
    is_open_here
        Whether this machine's own programs need no account: what watches the service.
    """

    permission: Permission | None = None
    is_open: bool = False
    is_open_here: bool = False

    def __call__(self, request: Request) -> Account:
        """Return the account.

        Raises
        ------
        SignInRequired
            If nobody is signed in.
        NotAllowed
            If the account may not do this.
        """
        account = current_account(request)
        if not self.is_open and not getattr(request.state, "is_admitted", False):
            self.check(account)
        return account

    def check(self, account: Account) -> None:
        """Refuse an account that may not do this."""
        if account == NOBODY:
            raise SignInRequired("sign in first")
        if self.permission is not None and not account.may(self.permission):
            raise NotAllowed(f"this needs the permission {self.permission.value}")


OPEN = Requirement(is_open=True)
SIGNED_IN = Requirement()


def require(permission: Permission, *, is_open_here: bool = False) -> Requirement:
    """Return a dependency that yields the account, or refuses the request.

    ``account: Annotated[Account, Depends(require(Permission.READ_STUDIES))]``

    A route without one answers nobody, see :mod:`vigil_inference.access.gate`.
    """
    return Requirement(permission, is_open_here=is_open_here)
