"""A progress bar with rate and time left, where somebody looks at it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(total: int, unit: str) -> Iterator[Callable[[int], object]]:
    """Yield a function to be called with the number of things just finished. No terminal, no bar."""
    from tqdm import tqdm

    quiet = not sys.stderr.isatty()
    with tqdm(
        total=total, unit=unit, file=sys.stderr, disable=quiet, dynamic_ncols=True, smoothing=0.1
    ) as bar:
        yield bar.update
