"""A disk that fills up and one that turns read-only, under a running service.

The data folder lies on a small ext4 file system in a file, so that the kernel's own errors come:
ENOSPC from writes, syncs and the database, EROFS after the file system found itself damaged. Needs
root, for the mount.
"""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.chaos.checks import ask_database
from tests.chaos.proof import Proof
from tests.chaos.recorder import Recorder
from tests.chaos.senders import ask_storescu, ask_stow
from tests.films import Film, Films
from tests.system.peers import Vigil, find_tool, wait_until

_MIB = 1024 * 1024
_DISK_BYTES, _DISK_BYTES_A_ROUND = 64 * _MIB, 112 * _MIB
_RESERVE_BYTES = 16 * _MIB
_SIZE = (1024, 1024)
OUT_OF_RESOURCES = "Refused: OutOfResources"


class SmallDisk:
    """An ext4 file system in a file, mounted while the context lasts."""

    def __init__(self, folder: Path, size_bytes: int = _DISK_BYTES) -> None:
        self.path = folder / "disk"
        self._image = folder / "disk.img"
        self.path.mkdir()
        with self._image.open("wb") as file:
            file.truncate(size_bytes)

    @contextlib.contextmanager
    def mounted(self) -> Iterator[None]:
        """Make the file system and mount it."""
        if os.geteuid() != 0:
            pytest.skip("mounting a small disk needs root")
        # No blocks kept for root: the service may run as root here.
        make = [find_tool("mkfs.ext4", "e2fsprogs"), "-q", "-F", "-m", "0", str(self._image)]
        subprocess.run(make, check=True)
        self.mount()
        try:
            yield
        finally:
            self.unmount()

    def mount(self) -> None:
        """Mount it; skip where that is not allowed."""
        command = ["mount", "-o", "loop,errors=remount-ro", str(self._image), str(self.path)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")

    def unmount(self) -> None:
        """Unmount it."""
        subprocess.run(["umount", str(self.path)], check=False, capture_output=True)

    def fill(self, leave_bytes: int) -> None:
        """Fill it up but for so many bytes."""
        with (self.path / "ballast").open("ab", buffering=0) as file:
            while (excess := self.free - leave_bytes) > 0:
                try:
                    os.posix_fallocate(file.fileno(), file.tell(), min(excess, 4 * _MIB))
                except OSError:
                    if excess < _MIB:
                        break
                    os.posix_fallocate(file.fileno(), file.tell(), 4096)
                file.seek(0, os.SEEK_END)

    def empty(self) -> None:
        """Give the space back."""
        (self.path / "ballast").unlink()

    @property
    def free(self) -> int:
        """How many bytes are free."""
        state = os.statvfs(self.path)
        return state.f_bavail * state.f_frsize

    def break_down(self) -> None:
        """Let the kernel find an error in the file system: it turns read-only, as it was told."""
        source = subprocess.run(
            ["findmnt", "-n", "-o", "SOURCE", str(self.path)],
            check=True, capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip
        trigger = Path("/sys/fs/ext4") / Path(source).name / "trigger_fs_error"
        if not trigger.exists():
            pytest.skip("this kernel cannot be told to find an error (trigger_fs_error)")
        trigger.write_text("chaos", encoding="ascii")

    def mend(self) -> None:
        """Unmount, check, mount again."""
        self.unmount()
        checked = subprocess.run(
            [find_tool("e2fsck", "e2fsprogs"), "-f", "-y", str(self._image)],
            check=False, capture_output=True,
        )  # fmt: skip
        assert checked.returncode in (0, 1), checked.stdout.decode(errors="replace")
        self.mount()


def why_not_mounted() -> str:
    """Return why no small disk can be mounted here, "" if one can."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with SmallDisk(Path(folder)).mounted():
                return ""
        except pytest.skip.Exception as error:
            return str(error)


class _Scene:
    def __init__(self, proof: Proof, disk: SmallDisk, vigil: Vigil, recorder: Recorder) -> None:
        self.proof = proof
        self.disk = disk
        self.vigil = vigil
        self.recorder = recorder
        self._films = Films(proof.folder, _SIZE, kind="effusion")
        self.acknowledged: set[str] = set()
        self.refused = 0
        self._number = 0

    def film(self) -> Film:
        self._number += 1
        return self._films.write(self.proof.folder / f"film-{self._number:05d}.dcm")

    def send(self, *films: Film) -> None:
        """Send films that must be taken, by both doors."""
        for film in films or (self.film(), self.film()):
            answer = ask_storescu(self.vigil.dicom_port, film)
            self.proof.require(answer == "Success", f"with room, storescu was answered {answer}")
            if answer == "Success":
                self.acknowledged.add(film.sop_instance_uid)

    def send_by_stow(self, film: Film) -> None:
        status = ask_stow(self.vigil.url, film)
        self.proof.require(status == 200, f"with room, STOW-RS was answered {status}")
        if status == 200:
            self.acknowledged.add(film.sop_instance_uid)

    def send_in_vain(self, *, when: str) -> list[Film]:
        """Send films that must be refused in the right words; return them for later."""
        films = [self.film(), self.film()]
        answer = ask_storescu(self.vigil.dicom_port, films[0])
        self.proof.require(OUT_OF_RESOURCES in answer, f"{when}, storescu was answered {answer}")
        status = ask_stow(self.vigil.url, films[1])
        self.proof.require(status in (507, 503), f"{when}, STOW-RS was answered {status}")
        self.refused += 2
        self.require_alive(when)
        return films

    def require_alive(self, when: str) -> None:
        program = self.vigil.program
        assert program is not None
        self.proof.require(program.process.poll() is None, f"{when}, the service ended")
        health = httpx.get(f"{self.vigil.url}/health", timeout=60)
        self.proof.require(health.is_success, f"{when}, /health answers {health.status_code}")

    def require_not_ready(self, when: str) -> None:
        status = httpx.get(f"{self.vigil.url}/ready", timeout=60).status_code
        self.proof.require(status == 503, f"{when}, /ready answers {status}")

    def await_all(self) -> None:
        """Wait until all that was acknowledged is analysed and delivered."""
        database = self.vigil.folder / "data" / "vigil.sqlite3"

        def settled() -> bool:
            questions = (
                "SELECT count(*) FROM instances WHERE state = 'received'",
                "SELECT count(*) FROM studies WHERE release_due_at IS NOT NULL",
                "SELECT count(*) FROM deliveries WHERE state != 'DELIVERED'",
            )
            return all(ask_database(database, question) == [(0,)] for question in questions)

        wait_until(settled, "all is analysed and delivered", 180)
        rows = ask_database(database, "SELECT sop_instance_uid, state FROM instances")
        self.proof.require_equal({uid for uid, _ in rows}, self.acknowledged, "recorded objects")
        self.proof.require(
            all(state == "analysed" for _, state in rows), "not all that was kept is analysed"
        )
        integrity = ask_database(database, "PRAGMA integrity_check")
        self.proof.require(integrity == [("ok",)], f"the database is damaged: {integrity}")
        reports = ask_database(database, "SELECT count(*) FROM result_sets")
        self.proof.require(reports == [(len(rows),)], f"{reports} releases of {len(rows)} studies")


def _fill_to_the_reserve(scene: _Scene) -> None:
    """Below the reserve objects are refused; below half of it, whole associations."""
    scene.disk.fill(_RESERVE_BYTES - 2 * _MIB)
    kept = scene.send_in_vain(when="below the reserve")
    scene.require_not_ready("below the reserve")
    scene.disk.fill(_RESERVE_BYTES // 2 - 2 * _MIB)
    answer = ask_storescu(scene.vigil.dicom_port, scene.film())
    scene.proof.require("Rejected" in answer, f"below half of the reserve: {answer}")
    scene.refused += 1
    scene.disk.empty()
    scene.send(kept[0])
    scene.send_by_stow(kept[1])


def _fill_to_the_last_byte(scene: _Scene) -> None:
    """Without a reserve the kernel refuses, in the middle of whatever is written."""
    scene.send()
    scene.disk.fill(0)
    kept = scene.send_in_vain(when="on a full disk")
    kept += scene.send_in_vain(when="on a full disk, again")
    scene.disk.empty()
    scene.send(kept[0], kept[2])
    scene.send_by_stow(kept[1])
    scene.send_by_stow(kept[3])


def _fill_while_it_works(scene: _Scene) -> None:
    """What was taken is analysed and released once there is room, whatever failed meanwhile."""
    films = [scene.film() for _ in range(6)]
    scene.disk.fill(_SIZE[0] * _SIZE[1] * 2 * (len(films) // 2) + _MIB // 2)
    for film in films:
        if ask_storescu(scene.vigil.dicom_port, film) == "Success":
            scene.acknowledged.add(film.sop_instance_uid)
        else:
            scene.refused += 1
    scene.require_alive("filled up by what it receives")
    scene.disk.empty()
    scene.send()


def _turn_read_only(scene: _Scene) -> None:
    """The kernel turns the disk read-only; after its repair, all that was acknowledged is there."""
    scene.send()
    scene.disk.break_down()
    kept = scene.send_in_vain(when="on a read-only disk")
    scene.require_not_ready("on a read-only disk")
    code = scene.vigil.stop()
    scene.proof.require(code in (0, -signal.SIGTERM), f"read-only, it ended with {code}")
    scene.disk.mend()
    scene.vigil.start(**_ENVIRONMENT, **_destinations(scene.recorder))
    scene.send(kept[0])
    scene.send_by_stow(kept[1])


_ENVIRONMENT = {
    "VIGIL_RESULT_QUIET_SECONDS": "0",
    "VIGIL_DELIVERY_RETRY_SECONDS": "0.4",
    "VIGIL_DELIVERY_RETRY_MOST_SECONDS": "1",
    "VIGIL_STORAGE_RESERVE_BYTES": "0",
}


def _destinations(recorder: Recorder) -> dict[str, str]:
    return {"VIGIL_DESTINATIONS": json.dumps([recorder.destination()])}


def prove_disk(proof: Proof, bundle: Path, *, rounds: int) -> None:
    """Fill the disk in three ways, turn it read-only, and look at what is left each time."""
    # Nothing is removed between the rounds: what one leaves must leave the next its room.
    disk = SmallDisk(proof.folder, _DISK_BYTES + rounds * _DISK_BYTES_A_ROUND)
    with contextlib.ExitStack() as stack:
        stack.enter_context(disk.mounted())
        recorder = stack.enter_context(Recorder())
        folder = proof.folder / "vigil"
        folder.mkdir()
        (disk.path / "data").mkdir()
        (folder / "data").symlink_to(disk.path / "data")
        vigil = Vigil(folder, bundle)
        stack.callback(lambda: vigil.program and vigil.stop())
        scene = _Scene(proof, disk, vigil, recorder)
        for _ in range(rounds):
            reserve = {"VIGIL_STORAGE_RESERVE_BYTES": str(_RESERVE_BYTES)}
            vigil.start(**_ENVIRONMENT | reserve, **_destinations(recorder))
            scene.send()
            _fill_to_the_reserve(scene)
            scene.await_all()
            vigil.stop()
            vigil.start(**_ENVIRONMENT, **_destinations(recorder))
            for trouble in (_fill_to_the_last_byte, _fill_while_it_works, _turn_read_only):
                trouble(scene)
                scene.await_all()
            vigil.stop()
        log = (folder / "service.log").read_text(encoding="utf-8", errors="replace")
        proof.require("Traceback" not in log, "the log holds a traceback")
        twice = recorder.twice()
        proof.require(not twice, f"{len(twice)} objects were delivered twice")
        proof.count(
            troubles=4 * rounds,
            refused=scene.refused,
            acknowledged=len(scene.acknowledged),
            delivered=len(recorder.arrivals),
        )
