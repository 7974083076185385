"""Where results may go and by which rules, as people write it in the settings."""

import base64
import binascii
import ssl
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, FilePath, field_validator, model_validator

from vigil.findings import LABELS
from vigil.triage import Priority

AETitle = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[ -\[\]-~]+$")]
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]

ResultKind = Literal["report", "capture", "key_objects"]
_SECRET_PREFIX = "whsec_"  # noqa: S105 - the form of a secret, not one
_SHORTEST, _LONGEST = 24, 64
RESULT_KINDS: tuple[ResultKind, ...] = ("report", "capture", "key_objects")


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Tls(_Written):
    """TLS 1.2 or later (BCP 195) towards a destination; an empty table uses the system's trust."""

    ca_file: FilePath | None = Field(
        None,
        description="Who vouches for the destination, PEM. Left out: the system's authorities.",
    )
    certificate_file: FilePath | None = Field(
        None,
        description="Our own certificate and its chain, PEM, where the destination asks for it.",
    )
    key_file: FilePath | None = Field(
        None, description="The certificate's key, PEM, if it is in a file of its own."
    )
    server_name: str = Field(
        "", description="The name in the destination's certificate, if it is not its address."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.key_file and not self.certificate_file:
            raise ValueError("key_file without certificate_file, expected both")
        try:
            self.context()
        except OSError as error:  # ssl.SSLError is one
            raise ValueError(f"the certificates cannot be used ({error.strerror})") from error
        return self

    def context(self) -> ssl.SSLContext:
        """Return how a destination is checked, and how we show who we are (PS3.15 B.12).

        Raises
        ------
        OSError
            If a file cannot be read or holds nothing that fits.
        """
        context = ssl.create_default_context(cafile=self.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.certificate_file is not None:
            context.load_cert_chain(self.certificate_file, self.key_file)
        return context


class _Destination(_Written):
    has_objects: ClassVar[bool] = True

    name: _Name = Field(description="By which rules and people call it.")
    objects: tuple[ResultKind, ...] = Field(
        RESULT_KINDS, min_length=1, description="Which kinds of results it takes."
    )
    timeout_seconds: float = Field(
        60.0, gt=0, le=3600, description="How long to wait for each of its answers."
    )


class DicomDestination(_Destination):
    """An application entity that takes results by C-STORE."""

    kind: Literal["c-store"] = Field(description="C-STORE.")
    host: str = Field(min_length=1, description="Its address.")
    port: int = Field(ge=1, le=65535, description="Its port.")
    ae_title: AETitle = Field(description="Its application entity title.")
    calling_ae_title: AETitle | None = Field(
        None, description="Our title towards it. Left out: `dicom_ae_title`."
    )
    proof: Literal["c-find", "storage-commitment", "none"] = Field(
        "c-find", description="What proves that it holds a result."
    )
    tls: Tls | None = Field(None, description="TLS, where given.")


class _HttpDestination(_Destination):
    url: str = Field(description="Its address, `https://…` or `http://…`.")
    tls: Tls | None = Field(None, description="How `https` is checked, where not the usual way.")

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected an address such as https://pacs.example/dicom-web")
        if parts.username or parts.password:
            raise ValueError("expected no password in the address: it would be logged")
        return url.rstrip("/")


class DicomWebDestination(_HttpDestination):
    """A DICOMweb server that takes results by STOW-RS."""

    kind: Literal["stow"] = Field(description="STOW-RS.")
    proof: Literal["qido", "none"] = Field(
        "qido", description="What proves that it holds a result."
    )
    username: str = Field("", description="For basic authentication, with `password_file`.")
    password_file: FilePath | None = Field(None, description="Holds the password.")
    token_file: FilePath | None = Field(
        None, description="Holds a bearer token; read at each request, so it may be renewed."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.username) != bool(self.password_file):
            raise ValueError("expected username and password_file together, or neither")
        if self.username and self.token_file:
            raise ValueError("expected a password or a token, not both")
        return self


class FolderDestination(_Destination):
    """A folder that exists, on this machine or mounted."""

    kind: Literal["folder"] = Field(description="Files in a folder.")
    path: Path = Field(description="The folder. It is never made: it may be a share not mounted.")
    proof: Literal["read-back", "none"] = Field(
        "read-back",
        description="What proves that it holds a result; `none` where another program takes the "
        "files away.",
    )


class WebhookDestination(_HttpDestination):
    """A program that wants to hear of each study, as signed JSON (Standard Webhooks)."""

    has_objects: ClassVar[bool] = False

    kind: Literal["webhook"] = Field(description="A signed message a study.")
    objects: tuple[ResultKind, ...] = Field((), max_length=0, description="None: it is a message.")
    secret_file: FilePath = Field(
        description="Holds the secret that signs: `whsec_` and base64 of 24 to 64 bytes."
    )
    proof: Literal["none"] = Field("none", description="A receiver proves nothing beyond 2xx.")

    @field_validator("secret_file")
    @classmethod
    def _check_secret(cls, path: Path) -> Path:
        read_secret(path.read_text(encoding="utf-8"))
        return path


Destination = Annotated[
    DicomDestination | DicomWebDestination | FolderDestination | WebhookDestination,
    Field(discriminator="kind"),
]
AnyDestination = DicomDestination | DicomWebDestination | FolderDestination | WebhookDestination


class DeliveryRule(_Written):
    """All its conditions must hold; one that is left out always does."""

    to: tuple[str, ...] = Field(min_length=1, description="Names of destinations.")
    sources: tuple[str, ...] = Field(
        (),
        description="Calling AE titles of which one sent a picture of the study, or `STOW-RS`, "
        "`FOLDER` for what came without a title; `*` and `?` stand for others.",
    )
    institutions: tuple[str, ...] = Field(
        (), description="Institution Name of the study, in any case; `*` and `?` stand for others."
    )
    findings: tuple[str, ...] = Field((), description="Findings of which one has a flag.")
    priorities: tuple[Priority, ...] = Field((), description="Priorities of the study.")

    @field_validator("findings")
    @classmethod
    def _check_findings(cls, findings: tuple[str, ...]) -> tuple[str, ...]:
        for label in findings:
            if label not in LABELS:
                raise ValueError(f"{label!r} is no finding, expected one of {', '.join(LABELS)}")
        return findings


def check_routes(
    destinations: "tuple[AnyDestination, ...]", rules: tuple[DeliveryRule, ...]
) -> None:
    """Check that destinations and rules fit each other.

    Raises
    ------
    ValueError
        If a name is taken twice, a rule names no destination, or no rule names a destination.
    """
    names = [destination.name for destination in destinations]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"destinations: {name!r} stands there twice, expected names of one")
    for number, rule in enumerate(rules, 1):
        for name in rule.to:
            if name not in names:
                known = ", ".join(names) or "none is set"
                raise ValueError(
                    f"delivery_rules: rule {number} names {name!r}, which is no destination "
                    f"(there are: {known})"
                )
    unreached = set(names) - {name for rule in rules for name in rule.to}
    if rules and unreached:
        missed = ", ".join(sorted(unreached))
        raise ValueError(
            f"delivery_rules: no rule leads to {missed}, so nothing would ever go there"
        )


def read_secret(text: str) -> bytes:
    """Return the bytes of a webhook's secret.

    Raises
    ------
    ValueError
        If it is not ``whsec_`` and base64 of 24 to 64 bytes.
    """
    expected = f"expected {_SECRET_PREFIX} and base64 of {_SHORTEST} to {_LONGEST} bytes"
    prefix, encoded = text.strip()[: len(_SECRET_PREFIX)], text.strip()[len(_SECRET_PREFIX) :]
    try:
        secret = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"the secret is not base64, {expected}") from error
    if prefix != _SECRET_PREFIX or not _SHORTEST <= len(secret) <= _LONGEST:
        raise ValueError(f"the secret has another form, {expected}")
    return secret
