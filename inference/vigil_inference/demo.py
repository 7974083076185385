"""The demonstration of ``make demo``: the real service, real associations, and the answers.

Starts ``vigil serve`` in a folder of its own, sends it studies by C-STORE as a modality would,
waits until each has its answer, and prints the worklist. A person's own files stay on this machine
and are deleted with the folder when the demonstration ends.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.progress import Progress

from vigil.errors import VigilError
from vigil.folder import pictures_in
from vigil.phantom import make_phantom
from vigil.phantom.dicom import write_dx
from vigil_inference.access.desk import AccessDesk
from vigil_inference.access.passwords import one_time_password
from vigil_inference.access.roles import Role
from vigil_inference.sender import send
from vigil_inference.settings import load_settings
from vigil_inference.store import Store
from vigil_inference.terminal import fetch_worklist, print_worklist

_HOST = "127.0.0.1"
_READER = "reader"
_DICOM_PORT, _HTTP_PORT = 11112, 8080
_READY_SECONDS, _ANSWER_SECONDS = 120.0, 600.0
_PHANTOMS = (
    "normal", "effusion", "normal", "cardiomegaly", "opacity", "inverted", "lateral", "rotated",
    "normal", "effusion",
)  # fmt: skip


class DemoFailed(Exception):
    """Something that the demonstration needs did not work; the message says what."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration and return its exit code, 0 if every study was answered."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="DICOM files to send")
    parser.add_argument("--exit", action="store_true", help="stop after the table")
    parser.add_argument("--bundle", type=Path, help="model bundle [default: the one in models/]")
    options = parser.parse_args(arguments)
    # A log file has no width of its own.
    console = Console(width=None if sys.stdout.isatty() else 140)
    signal.signal(signal.SIGTERM, _interrupt)
    home = Path("var/demo")
    home.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=home) as folder:
            _demonstrate(options.folder, options.bundle, options.exit, Path(folder), console)
    except DemoFailed as failure:
        console.print(f"The demonstration failed: {failure}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("Stopped.")
    return 0


def _demonstrate(
    given: Path | None, bundle: Path | None, leave: bool, folder: Path, console: Console
) -> None:
    files = _studies(given, folder, console)
    entry = _make_accounts(folder)
    with _service(folder, bundle) as (process, dicom_port, url):
        with console.status("Starting the service …"):
            _wait_until_ready(process, url)
        _send(files, dicom_port, console)
        _wait_for_answers(process, url, entry.token, console)
        print_worklist(fetch_worklist(url, "priority", 500, entry.token), console)
        console.print(f"Worklist page  {url}/")
        console.print(f"Sign in as     {_READER}, password {entry.password}", highlight=False)
        if leave:
            return
        console.print(
            f"Send it more   .venv/bin/vigil send FOLDER --to {_HOST}:{dicom_port}\n"
            "Ctrl-C stops the service and deletes what it received."
        )
        process.wait()
        raise DemoFailed(f"the service ended with exit code {process.returncode}")


@dataclass(frozen=True)
class _Entry:
    """How a person and the demonstration itself get in; gone with the folder."""

    password: str
    token: str


def _make_accounts(folder: Path) -> _Entry:
    """Make a radiologist and a token in the service's database, before it starts."""
    settings = load_settings(data_dir=folder / "data")
    settings.data_dir.mkdir(mode=0o700)
    with contextlib.closing(Store(settings.database)) as store:
        desk = AccessDesk(store, settings)
        password = one_time_password()
        desk.accounts.add(_READER, "Demo", {Role.RADIOLOGIST}, password)
        token = desk.tokens.create("demo", {Role.SERVICE}, timedelta(days=1))
    return _Entry(password, token)


def _studies(given: Path | None, folder: Path, console: Console) -> list[Path]:
    """Return what to send: a person's own files, else the real samples, else phantoms."""
    samples = Path(os.environ.get("VIGIL_DATA", "../shared/data")) / "dicom-samples"
    if given is not None or samples.is_dir():
        source = given or samples
        found = pictures_in([source])
        if not found or not all(path.is_file() for path in found):
            raise DemoFailed(f"there are no files in {source}")
        console.print(f"{len(found)} files from {source}", markup=False, highlight=False)
        return found
    console.print(f"{len(_PHANTOMS)} generated radiographs; DICOM=folder sends your own")
    return [
        write_dx(make_phantom(seed, kind, (1536, 1280)), folder / f"phantom-{seed}-{kind}.dcm")
        for seed, kind in enumerate(_PHANTOMS)
    ]


@contextlib.contextmanager
def _service(
    folder: Path, bundle: Path | None
) -> Iterator[tuple[subprocess.Popen[bytes], int, str]]:
    """Run ``vigil serve`` and yield it with its DICOM port and its address."""
    dicom_port, http_port = _free_port(_DICOM_PORT), _free_port(_HTTP_PORT)
    command = [
        str(Path(sys.executable).parent / "vigil"), "serve", "--data-dir", str(folder / "data"),
        "--dicom-port", str(dicom_port), "--http-port", str(http_port),
        *(["--bundle", str(bundle)] if bundle else []),
    ]  # fmt: skip
    with (folder / "service.log").open("wb") as log:
        # In a session of its own, so that Ctrl-C reaches us alone and we can end it in order.
        process = subprocess.Popen(  # noqa: S603
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"VIGIL_ACCOUNTS": "required"},
        )
    try:
        yield process, dicom_port, f"http://{_HOST}:{http_port}"
    except (DemoFailed, VigilError) as failure:
        tail = (folder / "service.log").read_text(encoding="utf-8", errors="replace")[-6000:]
        raise DemoFailed(f"{failure}\n{tail}") from failure
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port(wanted: int) -> int:
    """Return the port that is wanted, or another if it is taken."""
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((_HOST, port))
            return int(probe.getsockname()[1])
    raise DemoFailed("no free port was found")


def _wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    said = "it does not answer"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise DemoFailed(f"the service ended with exit code {process.returncode}")
        try:
            with urllib.request.urlopen(f"{url}/ready", timeout=5):  # noqa: S310
                return
        except urllib.error.HTTPError as error:
            with error:
                checks = json.load(error).get("checks", {})
            said = "; ".join(f"{part}: {state}" for part, state in checks.items() if state != "ok")
        except OSError:
            pass
        time.sleep(0.2)
    raise DemoFailed(f"the service was not ready in {_READY_SECONDS:.0f} s: {said}")


def _send(files: list[Path], dicom_port: int, console: Console) -> None:
    """Send all files and name those that were not simply stored."""
    remarks = []
    stored = 0
    with Progress(console=console) as progress:
        task = progress.add_task("Sending by C-STORE", total=len(files))
        titles = {"calling_ae_title": "VIGIL_DEMO", "called_ae_title": "VIGIL"}
        for sent in send(files, _HOST, dicom_port, **titles):
            progress.advance(task)
            stored += sent.succeeded
            if sent.message != "0x0000 Success":
                remarks.append(f"  {sent.path.name}: {sent.message}")
    console.print(f"{stored} of {len(files)} acknowledged" + ("; of these:" if remarks else ""))
    for remark in remarks:
        console.print(remark, markup=False, highlight=False)
    if not stored:
        raise DemoFailed("no file was stored")


def _wait_for_answers(
    process: subprocess.Popen[bytes], url: str, token: str, console: Console
) -> None:
    deadline = time.monotonic() + _ANSWER_SECONDS
    with Progress(console=console) as progress:
        task = progress.add_task("Analysing studies", total=None)
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise DemoFailed(f"the service ended with exit code {process.returncode}")
            page = fetch_worklist(url, "priority", 1, token)
            progress.update(task, total=page.total, completed=page.total - page.pending)
            if page.total and not page.pending:
                return
            time.sleep(0.2)
    raise DemoFailed(f"{page.pending} studies were not answered in {_ANSWER_SECONDS:.0f} s")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
