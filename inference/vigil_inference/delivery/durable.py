"""Files that survive a power cut: whole under their name, or not there."""

import os
from pathlib import Path

from vigil_inference.intake import sync_folder


def write_durably(path: Path, content: bytes, temporary: Path) -> None:
    """Write a file so that it is there, whole, when this returns.

    Parameters
    ----------
    path
        Where it shall be; what is there is replaced.
    content
        Its bytes.
    temporary
        A fresh name on the same file system, removed if something fails.

    Raises
    ------
    OSError
        If the disk does not take it.
    """
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
