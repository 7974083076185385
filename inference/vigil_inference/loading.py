"""Loading modules without looking for garbage among them."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def nothing_is_garbage() -> Iterator[None]:
    """Let what is loaded here stay for good, and let no later search for garbage look through it.

    Modules, their classes and schemas are half a million objects that live as long as the process.
    The collector would go through all of them again and again while they come: that took a fifth
    of the time to be ready.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if was_enabled:
            gc.enable()
