"""What a browser carries to the OpenID provider and back, and how it is turned away.

Without the libraries that only an installation with a provider needs.
"""

import secrets
from dataclasses import dataclass

from vigil.errors import VigilError


class ProviderRefused(VigilError):
    """The provider vouches for nobody who may come in; the code says why."""

    http_status = 401

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Errand:
    """What a browser that was sent to the provider must bring back."""

    state: str
    nonce: str
    verifier: str

    @classmethod
    def new(cls) -> "Errand":
        """Return one with fresh secrets."""
        return cls(*(secrets.token_urlsafe(32) for _ in range(3)))

    def written(self) -> str:
        """Return it as its cookie holds it."""
        return ".".join((self.state, self.nonce, self.verifier))

    @classmethod
    def read(cls, written: str) -> "Errand | None":
        """Return what a cookie holds, None if that is no errand."""
        parts = written.split(".")
        return cls(*parts) if len(parts) == 3 and all(parts) else None
