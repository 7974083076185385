"""Signing in at an OpenID provider: authorization code with PKCE, state and nonce.

After OpenID Connect Core 1.0 section 3.1, RFC 7636 and RFC 9700. The ID token is checked with
joserfc, Authlib's own library for JOSE.
"""

import hashlib
import hmac
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from sqlalchemy import select

from vigil_inference.access.accounts import Accounts, normal_name
from vigil_inference.access.oidc_errand import Errand, ProviderRefused
from vigil_inference.access.roles import Role
from vigil_inference.access.tables import AccountRow
from vigil_inference.settings import Settings
from vigil_inference.store import Store

_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]
_TIMEOUT_SECONDS = 10.0
_DOCUMENT_SECONDS = 3600.0
_LEEWAY_SECONDS = 60


class Provider:
    """The installation's OpenID provider."""

    def __init__(self, settings: Settings, store: Store, accounts: Accounts) -> None:
        self._settings = settings
        self._store = store
        self._accounts = accounts
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, dict[str, Any]]] = {}

    def address(self, errand: Errand, redirect_uri: str) -> str:
        """Return where the browser goes to sign in."""
        digest = hashlib.sha256(errand.verifier.encode()).digest()
        query = {
            "response_type": "code",
            "client_id": self._settings.oidc_client_id,
            "redirect_uri": redirect_uri,
            "scope": self._settings.oidc_scope,
            "state": errand.state,
            "nonce": errand.nonce,
            "code_challenge": urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        return f"{self._discovered()['authorization_endpoint']}?{urlencode(query)}"

    def account_id(self, errand: Errand, state: str, code: str, redirect_uri: str) -> int:
        """Return the account of whoever comes back with a code; made at the first time.

        Raises
        ------
        ProviderRefused
            If it is not who was sent, the provider does not answer, or no role is meant.
        """
        if not hmac.compare_digest(state.encode(), errand.state.encode()):
            raise ProviderRefused("OIDC_REFUSED", "the answer is not to our question")
        claims = self._claims(errand, code, redirect_uri)
        roles = self._roles(claims)
        if not roles:
            raise ProviderRefused("OIDC_NO_ROLE", "the provider names no role of this installation")
        return self._account(claims, roles)

    def _claims(self, errand: Errand, code: str, redirect_uri: str) -> Mapping[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": errand.verifier,
        }
        secret = self._settings.oidc_client_secret.get_secret_value()
        who = (self._settings.oidc_client_id, secret) if secret else None
        if who is None:  # a public client, RFC 6749 section 3.2.1
            form["client_id"] = self._settings.oidc_client_id
        try:
            with httpx.Client(timeout=_TIMEOUT_SECONDS, auth=who) as client:
                answer = client.post(self._discovered()["token_endpoint"], data=form)
                answer.raise_for_status()
                id_token = str(answer.json()["id_token"])
        except (httpx.HTTPError, ValueError, KeyError) as error:
            raise ProviderRefused("OIDC_REFUSED", "the provider did not take the code") from error
        return self._checked(id_token, errand.nonce)

    def _checked(self, id_token: str, nonce: str) -> Mapping[str, Any]:
        """Check an ID token's signature and claims (OpenID Connect Core 1.0 section 3.1.3.7)."""
        registry = jwt.JWTClaimsRegistry(
            leeway=_LEEWAY_SECONDS,
            iss={"essential": True, "value": self._settings.oidc_issuer},
            aud={"essential": True, "value": self._settings.oidc_client_id},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        for again in (False, True):
            try:
                keys = KeySet.import_key_set(self._keys(again=again))  # type: ignore[arg-type]
                token = jwt.decode(id_token, keys, algorithms=_ALGORITHMS)
                registry.validate(token.claims)
            except (JoseError, ValueError) as error:
                # The provider may have changed its keys since we asked for them.
                if again:
                    raise ProviderRefused(
                        "OIDC_REFUSED", f"the ID token does not hold ({type(error).__name__})"
                    ) from error
            else:
                return dict(token.claims)
        raise AssertionError

    def _roles(self, claims: Mapping[str, Any]) -> frozenset[Role]:
        said = claims.get(self._settings.oidc_roles_claim, [])
        names = [said] if isinstance(said, str) else [str(name) for name in said or ()]
        meant = self._settings.oidc_roles
        if not meant:
            meant = {role.value: [role] for role in Role}
        return frozenset(role for name in names for role in meant.get(name, ()))

    def _account(self, claims: Mapping[str, Any], roles: frozenset[Role]) -> int:
        issuer, subject = self._settings.oidc_issuer, str(claims["sub"])
        written = sorted(role.value for role in roles)
        display_name = str(claims.get("name", ""))[:200]
        with self._store.writing() as session:
            row = session.scalars(
                select(AccountRow).where(
                    AccountRow.oidc_issuer == issuer, AccountRow.oidc_subject == subject
                )
            ).one_or_none()
            if row is not None:
                if row.is_disabled:
                    raise ProviderRefused("OIDC_REFUSED", "the account is disabled")
                row.roles, row.display_name = written, display_name
                return row.id
        name = claims.get("preferred_username") or claims.get("email") or subject
        # A local account of the same name is another's: it is never taken over.
        record = self._accounts.insert(
            AccountRow(
                name=normal_name(str(name)),
                display_name=display_name,
                roles=written,
                password_hash="",
                must_change_password=False,
                is_disabled=False,
                oidc_issuer=issuer,
                oidc_subject=subject,
                created_at=self._store.now(),
            )
        )
        return record.account_id

    def _discovered(self) -> dict[str, Any]:
        issuer = self._settings.oidc_issuer
        found = self._fetched(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != issuer:
            raise ProviderRefused("OIDC_UNAVAILABLE", "oidc_issuer is not what the provider says")
        return found

    def _keys(self, *, again: bool) -> dict[str, Any]:
        return self._fetched(self._discovered()["jwks_uri"], again=again)

    def _fetched(self, url: str, *, again: bool = False) -> dict[str, Any]:
        with self._lock:
            known = self._known.get(url)
        if known is not None and not again and time.monotonic() - known[0] < _DOCUMENT_SECONDS:
            return known[1]
        try:
            with httpx.Client(timeout=_TIMEOUT_SECONDS) as client:
                found: dict[str, Any] = client.get(url).raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            raise ProviderRefused("OIDC_UNAVAILABLE", "the provider does not answer") from error
        with self._lock:
            self._known[url] = (time.monotonic(), found)
        return found
