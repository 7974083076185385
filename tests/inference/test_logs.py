"""Log lines are written where they can be, and never cost what they speak of."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import sys
import structlog
from vigil_inference.logs import configure_logs
configure_logs(sys.argv[1])
log = structlog.get_logger("test")
for number in range(2000):
    log.error("disk_reserve_reached", free_bytes=number)
print("went on")
"""


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_under_the_log_stops_nothing(log_format: str) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, log_format],
            check=False, timeout=60, stdout=subprocess.PIPE, stderr=full, text=True,
        )  # fmt: skip
    assert done.stdout == "went on\n"


def test_where_there_is_room_each_line_is_written() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, "json"], check=True, timeout=60, capture_output=True
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["free_bytes"] for line in lines] == list(range(2000))


_QUOTES_A_PATIENT = """
from vigil_inference.logs import configure_logs
configure_logs("json")
import pydicom  # after it, as the service does: pydicom sets its own level when it is imported
import logging
for name in ("pydicom", "pydicom.pixels.decoders.base", "pynetdicom", "pynetdicom.dul"):
    logging.getLogger(name).error("a value of the data set: Nguyễn^An")
logging.getLogger("uvicorn.error").error("another library speaks")
"""


def test_libraries_that_quote_data_sets_are_not_heard() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _QUOTES_A_PATIENT], check=True, timeout=60, capture_output=True
    )
    assert done.stderr.decode() == "uvicorn.error: another library speaks\n"
