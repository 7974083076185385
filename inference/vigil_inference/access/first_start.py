"""The first start: an administrator, whose one-time password is told once and kept nowhere else."""

import os
import sys

import typer

from vigil_inference.access.accounts import FIRST_NAME
from vigil_inference.access.desk import AccessDesk
from vigil_inference.settings import Settings

FILE_NAME = "first-password"


def tell_first_password(desk: AccessDesk, settings: Settings) -> None:
    """Make the first account of an installation that has none, and say how to sign in.

    The password goes to the terminal. Where the output is none (a unit of systemd, a container),
    it would end in a log: then it goes to a file that only this user may read.
    """
    if settings.accounts == "off":
        return
    password = desk.accounts.add_first()
    if password is None:
        return
    if sys.stdout.isatty():
        typer.echo(f"Sign in   {FIRST_NAME}  {password}")
        typer.echo("          This password is shown once; you choose another when you sign in.")
        return
    path = settings.data_dir / FILE_NAME
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"{password}\n")
    typer.echo(f"Sign in   {FIRST_NAME}, with the one-time password in {path}")
    typer.echo("          Delete that file once you have chosen another.")
