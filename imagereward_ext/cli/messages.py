"""What a person reads: on standard error, so that results can be piped."""

from __future__ import annotations

import sys


def say(message: str) -> None:
    """Print a line to standard error, above a progress bar if there is one."""
    from tqdm import tqdm

    tqdm.write(message, file=sys.stderr)


def shorten(text: str, length: int = 60) -> str:
    """Cut a text for a line, at a word if there is one."""
    text = " ".join(text.split())
    if len(text) <= length:
        return text
    return text[:length].rsplit(" ", 1)[0].rstrip(" ,") + " …"
