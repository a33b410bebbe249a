"""What weights hash to, remembered as long as their files are those that were hashed.

A gigabyte takes seconds. What a weights file says of itself is not believed: zeroed weights could carry any hash. The
notes lie in the user's own cache, where no model folder ever is, so whoever can put a file among the weights cannot
put a note there. A file put in another's place, or written over, is another to the system whatever its size and its
date say: it has another number, or another time of change, which no program sets. Windows tells no such time, but when
a file was made: there, one that is written over with as many bytes, and its date put back, is taken for what it was.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from imagereward_ext.storage import write_text

_MOST_NOTES = 100
_LARGEST_FILE = 2**20  # bytes
_known: dict[str, str] = {}
"""Digests by what identifies the files and what was hashed of them, the newest last."""


def remembered(files: Sequence[Path], more: Sequence[str], compute: Callable[[], str]) -> str:
    """Return the digest of these files, computing it when one of them has changed since.

    `more` says what the digest hangs on besides: which tensors, or the settings of their network.
    """
    key = _key(files, more)
    if key in _known:
        return _known[key]
    digest = _read().get(key)
    if digest is None:
        digest = compute()
        if _key(files, more) == key:  # nobody wrote to them meanwhile
            _write({**_read(), key: digest})  # read anew: another process may have noted something
    _known[key] = digest
    return digest


def _key(files: Sequence[Path], more: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps([[_identity(file) for file in files], list(more)]).encode()).hexdigest()


def _identity(file: Path) -> list[str | int]:
    state = file.stat()
    return [
        os.path.realpath(file),
        state.st_dev,
        state.st_ino,
        state.st_size,
        state.st_mtime_ns,
        state.st_ctime_ns,
    ]


def _file() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "imagereward" / "digests.json"


def _read() -> dict[str, str]:
    file = _file()
    try:
        if file.stat().st_size > _LARGEST_FILE:
            return {}
        notes = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(notes, dict) or not all(isinstance(note, str) for note in notes.values()):
        return {}
    return notes


def _write(notes: dict[str, str]) -> None:
    newest = dict(list(notes.items())[-_MOST_NOTES:])
    with suppress(OSError):  # without a cache it is computed again
        _file().parent.mkdir(parents=True, exist_ok=True)
        write_text(_file(), json.dumps(newest, indent=0) + "\n")
