"""What the shell is told."""

from __future__ import annotations

ALL_GOOD = 0
SOME_FAILED = 1
BAD_USAGE = 2
STOPPED = 130
"""What shells report for a program that Ctrl-C ended."""
