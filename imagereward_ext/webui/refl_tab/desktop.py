"""The desktop of the machine that the WebUI runs on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from imagereward_ext.errors import UsageError

PROGRAM = "open" if sys.platform == "darwin" else "xdg-open"
SECONDS_TO_FAIL = 3.0
"""A program that cannot show a folder says so at once; one that is still there after that shows it."""


def show(folder: Path) -> None:
    """Open a folder in the file manager."""
    if sys.platform == "win32":
        os.startfile(folder)
        return
    nowhere = subprocess.DEVNULL
    try:
        started = subprocess.Popen(
            [PROGRAM, str(folder)], stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True
        )
        code = started.wait(SECONDS_TO_FAIL)
    except subprocess.TimeoutExpired:
        return
    except OSError:
        code = 1
    if code:
        raise UsageError(f"this machine has no file manager to show it with; the folder is {folder}")
