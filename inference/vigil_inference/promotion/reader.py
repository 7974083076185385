"""The process in which the bundle in shadow runs, and its other end in the service.

A process of its own: a network that ends it, or fills the memory, ends nothing else. It has the
lowest priority and one thread, so that the serving bundle has the processor whenever it wants it,
and where memory is short it is the first that the system ends. Lines of JSON go in and out; when
the service is gone, however it went, its input ends and so does it.
"""

import contextlib
import ctypes
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pydantic import ValidationError

from vigil.errors import VigilError
from vigil_inference.records import AnalysisRecord, record_result

if TYPE_CHECKING:
    from vigil.processor import NetworkChoice
    from vigil.triager import Triager

_LOAD_SECONDS = 300.0
_LISTEN_SECONDS = 0.25
_LOWEST_PRIORITY = 19
_PR_SET_PDEATHSIG = 1


class ReaderEnded(Exception):
    """The process ended, or hung and was ended, while it had something to do."""


class Stopped(Exception):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True)
class ReaderOptions:
    """What the process is to run. A change of any of it needs another process."""

    folder: Path
    digest: str
    site_calibration: Path | None
    network: "NetworkChoice"
    for_processing: bool


class ShadowReader:
    """The service's end of a reader process.

    Parameters
    ----------
    options
        What it runs.
    is_stopping
        Whether to wait no longer.
    read_seconds
        After how long a picture counts as one that hangs it.
    """

    def __init__(
        self, options: ReaderOptions, is_stopping: Callable[[], bool], read_seconds: float = 120.0
    ) -> None:
        self.options = options
        self._is_stopping = is_stopping
        self._read_seconds = read_seconds
        self._process = subprocess.Popen(  # noqa: S603 - this very interpreter
            [sys.executable, "-W", "ignore", "-m", __name__, _encode(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # A library's words may quote a picture's header.
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._listen, name="shadow-lines", daemon=True).start()

    def open(self) -> str:
        """Wait until the bundle is loaded; return why it cannot be, "" if it is.

        Raises
        ------
        ReaderEnded
            If the process ended over it.
        """
        return str(self._answer(_LOAD_SECONDS)["problem"])

    def read(self, path: Path) -> AnalysisRecord:
        """Return what the bundle says of a picture.

        Raises
        ------
        ReaderEnded
            If the process ended over it, or did not answer in time.
        Stopped
            If nobody waits any more.
        """
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(json.dumps({"path": str(path)}) + "\n")
            stdin.flush()
        except OSError as error:
            raise ReaderEnded("the process had ended") from error
        try:
            return AnalysisRecord.model_validate(self._answer(self._read_seconds)["record"])
        except ValidationError as error:
            raise ReaderEnded("the process answered something else") from error

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(OSError):
            self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)

    def _answer(self, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while True:
            if self._is_stopping():
                raise Stopped
            try:
                line = self._lines.get(timeout=_LISTEN_SECONDS)
            except queue.Empty:
                if time.monotonic() > deadline:
                    raise ReaderEnded(f"no answer within {seconds:.0f} s") from None
                continue
            if line is None:
                raise ReaderEnded(f"the process ended ({_ending(self._process)})")
            found: dict[str, Any] = json.loads(line)
            return found

    def _listen(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        with contextlib.suppress(OSError, ValueError):
            for line in stdout:
                self._lines.put(line)
        self._lines.put(None)


def _ending(process: "subprocess.Popen[str]") -> str:
    try:
        code = process.wait(5)
    except subprocess.TimeoutExpired:
        return "no exit code"
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _encode(options: ReaderOptions) -> str:
    own = options.site_calibration
    return json.dumps(
        {
            "folder": str(options.folder),
            "digest": options.digest,
            "site_calibration": None if own is None else str(own),
            "network": options.network,
            "for_processing": options.for_processing,
        }
    )


def main() -> None:
    """Load the bundle that the argument describes, and answer for each picture that is named."""
    answers = _own_output()
    _be_modest()
    triager, problem = _load(json.loads(sys.argv[1]))
    _say(answers, problem=problem)
    if triager is None:
        return
    for line in sys.stdin:
        result = triager.triage(Path(json.loads(line)["path"]))
        record = record_result(result, triager.bundle.manifest, has_preview=False)
        _say(answers, record=record.model_dump(mode="json"))


def _load(options: dict[str, Any]) -> "tuple[Triager | None, str]":
    from vigil.reference import check_reference_outputs
    from vigil.triager import Triager

    own = options["site_calibration"]
    try:
        triager = Triager.load(
            Path(options["folder"]),
            threads=1,
            network=options["network"],
            for_processing=options["for_processing"],
            site_calibration=None if own is None else Path(own),
        )
        check_reference_outputs(triager)
    except VigilError as error:
        return None, str(error)
    except Exception as error:  # whatever it is, it is the candidate's trouble alone
        return None, f"the bundle failed to load ({type(error).__name__})"
    if triager.bundle.digest != options["digest"]:
        return None, f"{options['folder']}: holds another bundle than the record says"
    return triager, ""


def _say(answers: TextIO, **said: object) -> None:
    answers.write(json.dumps(said) + "\n")
    answers.flush()


def _own_output() -> TextIO:
    """Return where answers go, and let nothing else that prints reach it."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    return answers


def _be_modest() -> None:
    """Step behind everything else; what a system does not know of this it does without."""
    with contextlib.suppress(OSError, AttributeError):
        os.nice(_LOWEST_PRIORITY)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    if sys.platform == "linux":
        # Also where the service is killed while a picture is being read.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
