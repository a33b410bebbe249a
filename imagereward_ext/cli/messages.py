"""The two ways to a person's eye: results on standard output, everything else on standard error.

Prompts and names come from anybody, and a terminal obeys what it is sent: here, and nowhere else, they are printed.
"""

from __future__ import annotations

import sys
from contextlib import suppress

from imagereward_ext.errors import ImageRewardError
from imagereward_ext.wording import visible


class OutputError(ImageRewardError):
    """Standard output takes no more."""


def say(message: str) -> None:
    """Print a line to standard error, above a progress bar if there is one."""
    from tqdm import tqdm

    with suppress(OSError):  # a full disk, a reader that has gone: there is no other place to tell it
        tqdm.write(visible(message), file=sys.stderr)


def show(*lines: str) -> None:
    """Print lines to standard output."""
    print_raw("".join(f"{visible(line)}\n" for line in lines))


def print_raw(text: str) -> None:
    """Print a text that is safe already, at once, without tearing a progress bar on the same terminal."""
    try:
        if sys.stdout.isatty():
            from tqdm import tqdm

            tqdm.write(text, file=sys.stdout, end="")
        else:
            sys.stdout.write(text)
            sys.stdout.flush()  # a reader at the other end of a pipe sees each result as soon as it is known
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"the results cannot be written ({error.strerror or error})") from error


def shorten(text: str, length: int = 60) -> str:
    """Cut a text for a line, at a word if there is one."""
    text = " ".join(text.split())
    if len(text) <= length:
        return text
    return text[:length].rsplit(" ", 1)[0].rstrip(" ,") + " …"
