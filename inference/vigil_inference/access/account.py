"""Who asks: the account behind a request, and what it may do."""

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import Request

from vigil.errors import VigilError
from vigil_inference.access.roles import ALLOWED, Permission, Role


class NotAllowed(VigilError):
    """The account may not do this."""

    code = "NOT_ALLOWED"
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


def current_account(request: Request) -> Account:
    """Return the account behind a request."""
    account: Account = getattr(request.state, "account", EVERYBODY)
    return account


def require(permission: Permission) -> Callable[[Request], Account]:
    """Return a dependency that yields the account, or refuses the request.

    ``account: Annotated[Account, Depends(require(Permission.READ_STUDIES))]``
    """

    def check(request: Request) -> Account:
        account = current_account(request)
        if not account.may(permission):
            raise NotAllowed(f"this needs the permission {permission.value}")
        return account

    return check
