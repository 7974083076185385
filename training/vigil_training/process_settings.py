"""How this process gets its memory and how its threads wait, so that two cores train quickly.

Neither changes a figure; ``docs/decisions/training-on-two-cores.md`` says what each saves.
"""

import ctypes
import os
import sys

# malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Let glibc keep what is freed for the next step, instead of asking the system for it again.

    Returns
    -------
    bool
        Whether it will: False where the C library is another one.
    """
    if sys.platform != "linux":
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:  # musl
        return False
    # No block of its own for a large array, and the heap never shrinks (mallopt(3)).
    return bool(set_option(_M_MMAP_MAX, 0) and set_option(_M_TRIM_THRESHOLD, -1))


def let_waiting_threads_sleep() -> None:
    """Let threads of OpenMP that have nothing to do leave their core to others.

    OpenMP reads it when torch is imported: call it before. What the environment says stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
