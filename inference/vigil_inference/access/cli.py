"""``vigil users`` and ``vigil tokens``: who may sign in, and which machines may ask.

They work on the database, so they answer while the service is down; a running service hears of a
change within two seconds. Run them on a machine of the installation, with the service's settings.
"""

import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vigil_inference.access.roles import Role

if TYPE_CHECKING:
    from vigil_inference.access.desk import AccessDesk
    from vigil_inference.store import Store

users = typer.Typer(help="Who may sign in.", no_args_is_help=True, rich_markup_mode=None)
tokens = typer.Typer(
    help="Which machines and programs may ask.", no_args_is_help=True, rich_markup_mode=None
)

Config = Annotated[
    Path | None, typer.Option(help="Settings as TOML. [default: $VIGIL_CONFIG, if set]")
]
DataDir = Annotated[Path | None, typer.Option(help="Where pictures and records are.")]
Name = Annotated[str, typer.Argument(help="Letters, digits and . - _ @; its case does not count.")]
Roles = Annotated[list[Role], typer.Option("--role", help="What it is; may be repeated.")]
FromStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input.")
]


@users.command("add")
def add_user(
    name: Name,
    role: Roles,
    display_name: Annotated[str, typer.Option(help="As people read it.")] = "",
    password_stdin: FromStdin = False,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Make an account, with a one-time password that is printed unless one is given."""
    with _changing("add_account", name, role, config, data_dir) as desk:
        record, once = desk.accounts.add(name, display_name, role, _given(password_stdin))
    _tell(record.account.name, once)


@users.command("list")
def list_users(config: Config = None, data_dir: DataDir = None) -> None:
    """List the accounts, what they are, and when each was last there."""
    with _desk(config, data_dir) as desk:
        records = desk.accounts.all()
    for record in records:
        remarks = [
            "disabled" if record.is_disabled else "",
            "one-time password" if record.must_change_password else "",
            "by the provider" if record.is_from_provider else "",
        ]
        typer.echo(
            "  ".join(
                filter(
                    None,
                    (
                        record.account.name,
                        record.account.display_name,
                        ",".join(sorted(record.account.roles)) or "no role",
                        f"last {_moment(record.last_sign_in_at)}",
                        *remarks,
                    ),
                )
            )
        )


@users.command("set-password")
def set_password(
    name: Name,
    password_stdin: FromStdin = False,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Give an account a one-time password that is printed, or the one that is given.

    Every session of it ends.
    """
    with _changing("set_password", name, (), config, data_dir) as desk:
        once = desk.accounts.set_password(name, _given(password_stdin))
    _tell(name, once)


@users.command("set-role")
def set_role(name: Name, role: Roles, config: Config = None, data_dir: DataDir = None) -> None:
    """Say what somebody is from now on, instead of what it was."""
    with _changing("set_roles", name, role, config, data_dir) as desk:
        desk.accounts.set_roles(name, role)
    typer.echo(f"{name} is {', '.join(role)}")


@users.command("disable")
def disable(name: Name, config: Config = None, data_dir: DataDir = None) -> None:
    """Let somebody in no more; every session of it ends. Its name stays in the records."""
    with _changing("disable_account", name, (), config, data_dir) as desk:
        desk.accounts.set_disabled(name, True)
    typer.echo(f"{name} is disabled")


@users.command("enable")
def enable(name: Name, config: Config = None, data_dir: DataDir = None) -> None:
    """Let somebody in again."""
    with _changing("enable_account", name, (), config, data_dir) as desk:
        desk.accounts.set_disabled(name, False)
    typer.echo(f"{name} is enabled")


@tokens.command("create")
def create_token(
    name: Name,
    role: Roles,
    days: Annotated[int, typer.Option(help="How long it is good for.", min=1, max=3650)] = 365,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Make a token and print it, this once: send it as `Authorization: Bearer TOKEN`."""
    with _changing("create_token", name, role, config, data_dir) as desk:
        secret = desk.tokens.create(name, role, timedelta(days=days))
    typer.echo(secret)


@tokens.command("list")
def list_tokens(config: Config = None, data_dir: DataDir = None) -> None:
    """List the tokens, what they are, until when, and when each was last used."""
    with _desk(config, data_dir) as desk:
        records = desk.tokens.all()
    for record in records:
        until = f"until {_moment(record.expires_at)}"
        if record.revoked_at is not None:
            until = f"revoked {_moment(record.revoked_at)}"
        roles = ",".join(sorted(record.roles)) or "no role"
        typer.echo(f"{record.name}  {roles}  {until}  last {_moment(record.last_used_at)}")


@tokens.command("revoke")
def revoke_token(name: Name, config: Config = None, data_dir: DataDir = None) -> None:
    """Let a token in no more."""
    with _changing("revoke_token", name, (), config, data_dir) as desk:
        desk.tokens.revoke(name)
    typer.echo(f"{name} is revoked")


@contextmanager
def _desk(config: Path | None, data_dir: Path | None) -> "Iterator[AccessDesk]":
    with _open(config, data_dir) as (desk, _):
        yield desk


@contextmanager
def _changing(
    action: str,
    name: str,
    roles: Collection[Role],
    config: Path | None,
    data_dir: Path | None,
) -> "Iterator[AccessDesk]":
    """Yield the desk, and record what was done once it is done."""
    from vigil_inference.access.accounts import normal_name
    from vigil_inference.audit.trail import AuditEvent, AuditTrail

    with _open(config, data_dir) as (desk, store):
        yield desk
        said = " ".join([normal_name(name), *(role.value for role in roles)])
        AuditTrail(store).append(AuditEvent(f"cli:{_user()}", action, detail=said))


@contextmanager
def _open(config: Path | None, data_dir: Path | None) -> "Iterator[tuple[AccessDesk, Store]]":
    from contextlib import closing

    from vigil_inference.access.desk import AccessDesk
    from vigil_inference.delivery.cli import database_settings
    from vigil_inference.store import Store

    settings = database_settings(config, data_dir)
    with closing(Store(settings.database)) as store:
        yield AccessDesk(store, settings), store


def _user() -> str:
    """Return who runs the command, as this machine knows him."""
    import getpass
    import os

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())


def _given(from_stdin: bool) -> str:
    if not from_stdin:
        return ""
    password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise typer.BadParameter(
            "expected a password on standard input", param_hint="--password-stdin"
        )
    return password


def _tell(name: str, once: str) -> None:
    if once:
        typer.echo(f"{name}  {once}")
        typer.echo("Shown this once; another must be chosen at the first sign-in.", err=True)
    else:
        typer.echo(name)


def _moment(moment: datetime | None) -> str:
    return "never" if moment is None else f"{moment:%Y-%m-%d %H:%M}"
