import platform
import subprocess
import sys

import pytest

ONE_STEP = """
import resource, sys
import numpy as np
from vigil_training.process_settings import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def step():
    arrays = [np.ones(4_000_000, np.float32) for _ in range(4)]
step(); step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_memory_that_was_freed_is_not_asked_for_again() -> None:
    faults = {
        way: int(
            subprocess.run(
                [sys.executable, "-c", ONE_STEP, way], capture_output=True, text=True, check=True
            ).stdout
        )
        for way in ("kept", "given back")
    }
    # 64 MB a step are up to 16,000 pages of 4 KiB.
    assert faults["given back"] > 100
    assert faults["kept"] < faults["given back"] / 10


def test_waiting_threads_sleep_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import os

    from vigil_training.process_settings import let_waiting_threads_sleep

    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    let_waiting_threads_sleep()
    assert os.environ["OMP_WAIT_POLICY"] == "active"
    monkeypatch.delenv("OMP_WAIT_POLICY")
    let_waiting_threads_sleep()
    assert os.environ["OMP_WAIT_POLICY"] == "passive"
