"""Accounts, sessions, tokens and attempts of one node, put together."""

from datetime import timedelta
from typing import TYPE_CHECKING

from vigil_inference.access.accounts import AccountRecord, Accounts
from vigil_inference.access.attempts import Attempts
from vigil_inference.access.passwords import check_new
from vigil_inference.access.sessions import Sessions
from vigil_inference.access.tokens import Tokens
from vigil_inference.settings import Settings
from vigil_inference.store import Store

if TYPE_CHECKING:
    from vigil_inference.access.oidc import Provider


class AccessDesk:
    """Where people sign in and out, and machines show their tokens."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.settings = settings
        self.accounts = Accounts(store)
        self.tokens = Tokens(store)
        self.attempts = Attempts()
        self.sessions = Sessions(
            store,
            timedelta(minutes=settings.session_idle_minutes),
            timedelta(hours=settings.session_hours),
        )
        self.provider = self._provider(store)

    def _provider(self, store: Store) -> "Provider | None":
        if not self.settings.oidc_issuer or self.settings.accounts == "off":
            return None
        # Its libraries take a fourteenth of the imports' time, which others need not wait for.
        from vigil_inference.access.oidc import Provider

        return Provider(self.settings, store, self.accounts)

    def sign_in(self, name: str, password: str, address: str) -> str | None:
        """Return a new session's secret, None if name and password do not belong together.

        Raises
        ------
        TooManyAttempts
            If this account or address must wait.
        """
        self.attempts.check(name, address)
        found = self.accounts.check_password(name, password)
        if found is None:
            return None
        self.attempts.succeeded(name, address)
        return self.sessions.open(found.account_id)

    def change_password(
        self, name: str, old: str, new: str, address: str
    ) -> tuple[AccountRecord, str] | None:
        """Set somebody's own password; None if the old one is wrong.

        Every session of the account ends; the secret of a new one is returned.
        """
        self.attempts.check(name, address)
        found = self.accounts.check_password(name, old)
        if found is None:
            return None
        self.attempts.succeeded(name, address)
        check_new(new, name)
        self.accounts.set_password(name, new)
        self.sessions.forget_all()
        return self.accounts.find(name), self.sessions.open(found.account_id)
