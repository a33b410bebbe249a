"""The user's own scores: a small append-only file per scorer, from which a limit gets its meaning.

"0.5" says nothing to anybody; "41 % of your own images are below 0.5" does. One text line per score, so that
appending needs no reading and a broken line costs one score. The file is cut to its newest half when it grows
past its bound.
"""

from __future__ import annotations

import math
import re
import threading
from bisect import bisect_left, bisect_right, insort
from pathlib import Path

from imagereward_ext.storage import write_text

ENOUGH = 100
"""So many scores must be known before a share of them is worth telling."""
_MOST = 20_000
_LINE_LENGTH = 9
"""`+1.23456` and a line end: equal lengths tell the number of lines without reading them."""


class History:
    """Scores of one scorer (label and digest), kept sorted in memory and appended on disk."""

    def __init__(self, folder: Path, label: str, digest: str) -> None:
        safe = re.sub(r"[^A-Za-z0-9._-]+", "_", label)
        self.path = folder / f"scores-{safe}-{digest}.txt"
        self._lock = threading.Lock()
        self._sorted: list[float] = []
        self._read_up_to = -1

    def add(self, score: float) -> None:
        """Remember one score. A disk that refuses is no reason to stop: the scores are a convenience."""
        if not math.isfinite(score):
            return
        line = f"{max(-9.99999, min(9.99999, score)):+.5f}\n".encode("ascii")
        with self._lock:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open(
                    "ab", buffering=0
                ) as file:  # one write call: other processes append whole lines
                    file.write(line)
                size = self.path.stat().st_size
                if self._read_up_to == size - len(line):  # nobody else wrote meanwhile
                    insort(self._sorted, float(line))
                    self._read_up_to = size
                if size > _MOST * _LINE_LENGTH:
                    self._keep_newest_half()
            except OSError:
                return

    def scores(self) -> list[float]:
        """Return all known scores in ascending order."""
        with self._lock:
            try:
                size = self.path.stat().st_size
            except OSError:
                size = 0
            if size != self._read_up_to:
                self._sorted = sorted(_parse(self._lines())) if size else []
                self._read_up_to = size
            return self._sorted

    def share_below(self, limit: float) -> float | None:
        """Return the share (0..1) of known scores below a limit; None until enough are known."""
        known = self.scores()
        return bisect_left(known, limit) / len(known) if len(known) >= ENOUGH else None

    def percentile(self, score: float) -> float | None:
        """Return the place (0..1) of a score among the known ones, ties in the middle; None until enough are known."""
        known = self.scores()
        if len(known) < ENOUGH:
            return None
        return (bisect_left(known, score) + bisect_right(known, score)) / 2 / len(known)

    def _lines(self) -> list[bytes]:
        try:
            return self.path.read_bytes().split(b"\n")
        except OSError:
            return []

    def _keep_newest_half(self) -> None:
        newest = [line for line in self._lines() if line][-_MOST // 2 :]
        write_text(self.path, b"\n".join(newest).decode("ascii", "replace") + "\n")


def opened(path: Path) -> History:
    """Open a file of scores that was found by its name."""
    label, digest = path.stem.removeprefix("scores-").rsplit("-", 1)
    return History(path.parent, label, digest)


def aesthetic_score(percentile: float) -> str:
    """Turn a place among the user's own images into the 0-10 that other image browsers sort by."""
    return f"{10 * percentile:.1f}"


def describe_share(share: float | None, known: int, limit: float) -> str:
    """Say what a limit means for the user's own images."""
    if share is None:
        missing = ENOUGH - known
        images = "image" if missing == 1 else "images"
        return f"After {missing} more scored {images}, the share of yours below the limit shows here."
    return f"{share:.0%} of your {known} scored images are below {limit:g}."


def _parse(lines: list[bytes]) -> list[float]:
    scores = []
    for line in lines:
        try:
            score = float(line)
        except ValueError:
            continue
        if math.isfinite(score):
            scores.append(score)
    return scores
