"""A deployment's settings: one typed object, from a TOML file and the environment.

What is given on the command line wins over ``VIGIL_*`` in the environment, which wins over the
file. Every field is described here and documented in ``docs/operations.md``; a test compares them.
"""

import os
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, IPvAnyNetwork, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from vigil.errors import ConfigurationError
from vigil.processor import NetworkChoice
from vigil.triage import Priority
from vigil_inference.access.roles import Role
from vigil_inference.database import normal_url
from vigil_inference.delivery.destinations import AETitle as _AETitle
from vigil_inference.delivery.destinations import DeliveryRule, Destination, check_routes

_Minutes = Annotated[float, Field(gt=0, le=525600)]
_Port = Annotated[int, Field(ge=0, le=65535)]
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Settings(BaseSettings):
    """How one installation of the service runs. Thresholds are not here: the bundle holds them."""

    model_config = SettingsConfigDict(env_prefix="VIGIL_", extra="forbid", frozen=True)

    bundle: Path | None = Field(
        None,
        description="Folder of the model bundle. Left out: the one in `models/`, or the one that "
        "`models/DEFAULT` names.",
    )
    site_calibration: Path | None = Field(
        None,
        description="File of the site's own calibration and thresholds, made by `vigil calibrate` "
        "for this very bundle. Left out: the bundle's own.",
    )
    bundles_dir: Path | None = Field(
        None,
        description="Folder of the copies of bundles that were in shadow or serve, by digest. Left "
        "out: `bundles` in `data_dir`.",
    )
    shadow_least_pictures: int = Field(
        200,
        ge=0,
        description="How many pictures two bundles must both have read before one is promoted.",
    )
    shadow_most_waiting: int = Field(
        1000,
        ge=1,
        description="How many pictures may wait to be read in shadow; the oldest beyond are passed "
        "over and counted.",
    )
    data_dir: Path = Field(
        Path("var"),
        description="Folder of the pictures received, the previews and the embedded database.",
    )
    database_url: str = Field(
        "",
        description="URL of the database: `postgresql://USER:PASSWORD@HOST/DATABASE` where several "
        "nodes share it. Left out: SQLite in `data_dir`.",
    )
    node_name: str = Field(
        "", max_length=64, description="What this node is called. Left out: its host's name."
    )
    lease_seconds: float = Field(
        45.0,
        ge=1,
        le=50,
        description="How long a node may be silent before others take its work over.",
    )
    site: str = Field(
        "", max_length=64, description="Name of this installation, shown on the page."
    )

    dicom_host: str = Field("0.0.0.0", description="Address that the DICOM listener binds to.")  # noqa: S104
    dicom_port: _Port = Field(11112, description="Port of the DICOM listener; 0 takes a free one.")
    dicom_ae_title: _AETitle = Field(
        "VIGIL", description="Application entity title of the service."
    )
    dicom_require_called_ae_title: bool = Field(
        False, description="Reject associations that call the service by another title."
    )
    dicom_allowed_calling_ae_titles: list[_AETitle] = Field(
        [],
        description="Titles that may send. Empty lets every title send. Titles are no passwords.",
    )
    dicom_allowed_addresses: list[IPvAnyNetwork] = Field(
        [],
        description="Addresses or networks (`192.0.2.0/24`) that may connect. Empty lets all.",
    )
    dicom_max_associations: int = Field(
        64, ge=1, le=500, description="How many associations may be open at once."
    )
    dicom_max_pdu_bytes: int = Field(
        131072, ge=4096, le=1048576, description="Largest PDU that the listener asks for."
    )
    dicom_timeout_seconds: float = Field(
        60.0, gt=0, description="Network, ACSE and DIMSE timeout of an association."
    )
    dicom_object_timeout_seconds: float = Field(
        600.0, gt=0, description="Longest time that one object may take to arrive."
    )
    dicom_tls_port: _Port = Field(
        2762, description="Port for DICOM over TLS, opened where a certificate is named."
    )
    dicom_tls_certificate: Path | None = Field(
        None, description="PEM file of the certificate, with those between it and its root."
    )
    dicom_tls_key: Path | None = Field(
        None, description="PEM file of its private key. Left out: in the certificate's file."
    )
    dicom_tls_client_ca: Path | None = Field(
        None,
        description="PEM file of the roots of clients' certificates. Left out: clients need none.",
    )
    dicom_require_tls: bool = Field(
        False, description="Do not open `dicom_port`: DICOM over TLS only."
    )
    storage_commitment_peers: dict[_AETitle, str] = Field(
        {},
        description="Where storage commitment is reported to, as `HOST:PORT` by calling title. "
        "A title that is not here hears it on its own association.",
    )

    http_host: str = Field("127.0.0.1", description="Address that the web server binds to.")
    http_port: _Port = Field(8080, description="Port of the web server; 0 takes a free one.")
    http_allowed_hosts: list[str] = Field(
        [],
        description="Host names that requests may carry. Empty: only this machine's own while the "
        "web server is bound to it, else any.",
    )
    http_trusted_proxies: list[IPvAnyNetwork] = Field(
        [ip_network("127.0.0.1"), ip_network("::1")],
        description="Addresses of reverse proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` "
        "are believed.",
    )
    accounts: Literal["required", "off"] = Field(
        "required",
        description="Whether people must sign in and machines send a token. `off` lets everybody "
        "see and do everything, and is refused unless `http_host` is this machine's own.",
    )
    session_idle_minutes: float = Field(
        30.0, gt=0, description="After how long without a sign of its owner a session ends."
    )
    session_hours: float = Field(
        12.0, gt=0, description="After how long a session ends, whatever its owner does."
    )
    oidc_issuer: str = Field(
        "", description="Address of the OpenID provider where people sign in. Empty: none."
    )
    oidc_client_id: str = Field("", description="What this installation is called there.")
    oidc_client_secret: SecretStr = Field(
        SecretStr(""), description="Its secret there; better from the environment than from a file."
    )
    oidc_name: str = Field(
        "OpenID", max_length=64, description="What the button on the sign-in page calls it."
    )
    oidc_scope: str = Field("openid profile email", description="What is asked of the provider.")
    oidc_roles_claim: str = Field(
        "roles", description="Which claim of the ID token names somebody's roles or groups."
    )
    oidc_roles: dict[str, list[Role]] = Field(
        {},
        description="Which roles here each of these means. Empty: they are called as here.",
    )
    dicomweb_trusted_addresses: list[IPvAnyNetwork] = Field(
        [],
        description="Addresses or networks of a PACS that can send no token: their requests to "
        "`/dicomweb` have the role `service`.",
    )
    stow_max_bytes: int = Field(
        2 * 1024**3, ge=1024, description="Largest body of one STOW-RS request."
    )
    watch_folder: Path | None = Field(
        None,
        description="Folder whose files are taken and then removed. Left out: none is watched.",
    )
    watch_settle_seconds: float = Field(
        5.0, ge=0, description="How long a file there must not have changed."
    )
    watch_poll_seconds: float = Field(2.0, gt=0, description="How often the folder is looked at.")
    storage_reserve_bytes: int = Field(
        512 * 1024**2,
        ge=0,
        description="Free space in `data_dir` below which pictures are refused with 0xA700 or 507.",
    )

    analysis_workers: int = Field(
        2, ge=1, le=64, description="How many pictures are analysed at the same time."
    )
    analysis_threads: int | None = Field(
        None,
        ge=1,
        description="Threads of the network for each picture. Left out: all cores of the process.",
    )
    network: NetworkChoice = Field(
        "auto",
        description="Which of the bundle's networks answers: `float`, `int8`, or `auto`: 8-bit "
        "integers where the bundle has them and the processor multiplies them fast.",
    )
    analyse_for_processing: bool = Field(
        False,
        description="Analyse DX for processing too, which is kept and refused otherwise: raw "
        "detector values that no window describes.",
    )
    analysis_attempts: int = Field(
        5,
        ge=1,
        description="How often a picture may take the whole process down before it is refused with "
        "INTERNAL_ERROR.",
    )
    stop_seconds: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="How long a stop waits for what is in work; what is not done by then is taken "
        "up again by the next start, or by another node.",
    )
    model_retry_seconds: float = Field(
        30.0, gt=0, description="How long to wait before loading a missing or broken bundle again."
    )

    heat_maps: bool = Field(
        True, description="Show where the network looked. Some jurisdictions forbid it for triage."
    )
    result_profile: Literal["findings", "cadt"] = Field(
        "findings",
        description="What the DICOM results say: `findings` with scores and regions, or `cadt`, a "
        "case-level flag only.",
    )
    result_key_objects: bool = Field(
        False, description="Add a Key Object Selection that marks the flagged pictures."
    )
    result_negatives: bool = Field(
        True,
        description="Report studies without a flag; in the profile `cadt` they never have a report "
        "of their own.",
    )
    result_refusals: bool = Field(
        True, description="Report studies of which nothing could be analysed, and why."
    )
    result_quiet_seconds: float = Field(
        30.0,
        ge=0,
        le=86400,
        description="How long no picture of a study must have come before its results are "
        "released.",
    )
    destinations: list[Destination] = Field(
        [], description="Where results go; see `docs/delivery.md`. Empty: nowhere."
    )
    delivery_rules: list[DeliveryRule] = Field(
        [],
        description="Which results go to which destination. Empty: all go to all.",
    )
    delivery_retry_seconds: float = Field(
        30.0, gt=0, description="Wait after the first failure to deliver; it doubles each time."
    )
    delivery_retry_most_seconds: float = Field(
        3600.0, gt=0, description="The longest wait between two attempts to deliver."
    )
    delivery_give_up_seconds: float = Field(
        86400.0,
        gt=0,
        description="After this long a delivery that does not succeed, or is not proved, has "
        "failed.",
    )
    delivery_proof_seconds: float = Field(
        600.0,
        gt=0,
        description="After this long a result that its destination took but does not hold is sent "
        "again.",
    )
    retention_originals_days: float | None = Field(
        None,
        ge=0,
        description="The pixels of originals are removed this long after the delivery of their "
        "study's results was proved. Left out: never by age.",
    )
    retention_results_days: float | None = Field(
        None,
        ge=0,
        description="A result's file is removed this long after its delivery was proved. Left out: "
        "never by age.",
    )
    retention_free_bytes: int | None = Field(
        None,
        ge=0,
        description="With less free space in `data_dir` than this, originals and then results go "
        "before their time, if their delivery was proved; more than `storage_reserve_bytes`.",
    )
    dicom_commitment_port: _Port | None = Field(
        None,
        description="Port for the storage commitment reports of destinations. Left out: none.",
    )
    second_reading_blind: bool = Field(
        False,
        description="Show a radiologist what others said of a study only once the own reading of "
        "it is signed.",
    )
    reading_targets: dict[Priority, _Minutes] = Field(
        {Priority.CRITICAL: 30, Priority.URGENT: 120, Priority.ROUTINE: 1440},
        description="Within how many minutes a study is to be read, by priority; a priority that "
        "is not named has no target. Studies that were not analysed wait no longer than routine "
        "ones.",
    )
    preview_pixels: int = Field(
        1536, ge=256, le=4096, description="Longer side of the stored preview pictures."
    )
    language: Literal["auto", "vi", "en", "fr"] = Field(
        "auto",
        description="Language of the page and of the results; with `auto` the page follows the "
        "browser, and results are in English.",
    )
    log_format: Literal["console", "json"] = Field(
        "console", description="How log lines are written to standard error."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.database_url:
            try:
                normal_url(self.database_url)
            except ValueError as error:
                raise ValueError(f"database_url: {error}") from error
        if self.accounts == "off" and not self.is_local_only:
            raise ValueError(
                "accounts: off is for a web server that only this machine reaches; expected "
                "http_host = 127.0.0.1 beside it"
            )
        if self.dicom_require_tls and self.dicom_tls_certificate is None:
            raise ValueError("dicom_require_tls: expected dicom_tls_certificate beside it")
        if (
            self.retention_free_bytes is not None
            and self.retention_free_bytes <= self.storage_reserve_bytes
        ):
            raise ValueError(
                "retention_free_bytes: expected more than storage_reserve_bytes, where nothing is "
                "received any more"
            )
        if Priority.NOT_ANALYSED in self.reading_targets:
            raise ValueError(
                "reading_targets: expected CRITICAL, URGENT or ROUTINE; what was not analysed "
                "waits no longer than routine studies"
            )
        check_routes(tuple(self.destinations), tuple(self.delivery_rules))
        if self.dicom_commitment_port is None and any(
            destination.proof == "storage-commitment" for destination in self.destinations
        ):
            raise ValueError(
                "dicom_commitment_port: a destination is asked for storage commitment, expected "
                "the port that it reports to"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: arguments, environment, file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @property
    def database(self) -> str:
        """The database's URL, the embedded one where none is set."""
        if self.database_url:
            return normal_url(self.database_url)
        return f"sqlite:///{self.data_dir.absolute() / 'vigil.sqlite3'}"

    @property
    def is_local_only(self) -> bool:
        """Whether only this machine can reach the web server."""
        return self.http_host in _LOOPBACK

    @property
    def allowed_hosts(self) -> list[str]:
        """Host names that requests may carry, so that no foreign page can reach a local service."""
        if self.http_allowed_hosts:
            return list(self.http_allowed_hosts)
        return ["127.0.0.1", "localhost", "[::1]", "::1"] if self.is_local_only else ["*"]


def load_settings(config: Path | None = None, **overrides: object) -> Settings:
    """Read the settings.

    Parameters
    ----------
    config
        A TOML file; without it the one that ``VIGIL_CONFIG`` names, if any.
    **overrides
        Fields given on the command line; None means not given.

    Raises
    ------
    ConfigurationError
        If the file cannot be read or a field is unknown or wrong; the message names it.
    """
    named = os.environ.get("VIGIL_CONFIG")
    path = config or (Path(named) if named else None)
    if path is not None and not path.is_file():
        raise ConfigurationError(f"{path}: there is no such settings file")

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=path)

    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return FromFile(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "settings"
        raise ConfigurationError(f"{path or 'settings'}: {where}: {first['msg']}") from error
    except (SettingsError, ValueError, OSError) as error:
        raise ConfigurationError(f"{path or 'settings'}: {error}") from error
