"""Scorers that load their weights only when a score is missing.

A score's place in the cache hangs on the weights' digest, and that takes reading the weights. So the digest is
noted beside the cache together with what the files looked like; as long as they look the same, it is believed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from imagereward_ext.compute import Compute
from imagereward_ext.scorers import loading
from imagereward_ext.scorers.base import Scorer
from imagereward_ext.scorers.loading import Source
from imagereward_ext.storage import write_text
from imagereward_ext.weights.spec import ScorerSpec
from imagereward_ext.wording import Say

_NOTES = "digests.json"


class LazyScorer:
    """A scorer's name and identity; the scorer itself when it is needed."""

    def __init__(self, source: Source, digest: str, dtype: torch.dtype, load: Callable[[], Scorer]) -> None:
        self.name, self.mean, self.std = source.name, source.mean, source.std
        self.digest = digest
        self.dtype = dtype
        self._load = load
        self._scorer: Scorer | None = None

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        """Load the scorer if this is the first time, and score."""
        if self._scorer is None:
            self._scorer = self._load()
        return self._scorer.score(images, prompts)


def open_scorer(
    spec: ScorerSpec, cache: Path, compute: Compute | None = None, report: Say | None = None
) -> LazyScorer:
    """Find a scorer; load it now only when its digest is not known."""
    compute = compute or Compute()

    def load() -> Scorer:
        return loading.load_scorer(spec, compute=compute, report=report)

    source = loading.find_source(spec, report)
    dtype = compute.for_scoring().dtype
    if source.architecture == "mix":  # its identity hangs on other files; it is read anew each time
        return _loaded(source, load())
    look = _look_of(source)
    notes = _read_notes(cache)
    if look in notes:
        return LazyScorer(source, notes[look], dtype, load)
    scorer = _loaded(source, load())
    # Loading may have converted the weights: what is noted is how they look now.
    now = loading.find_source(spec, report)
    cache.mkdir(parents=True, exist_ok=True)
    write_text(cache / _NOTES, json.dumps({**_read_notes(cache), _look_of(now): scorer.digest}, indent=1))
    return scorer


def _loaded(source: Source, scorer: Scorer) -> LazyScorer:
    return LazyScorer(source, scorer.digest, scorer.dtype, lambda: scorer)


def _look_of(source: Source) -> str:
    """Say what the files look like: names, sizes, times, and everything the configuration says."""
    files = {"weights": source.weights, **source.companions}
    look: dict[str, Any] = {
        role: [str(path.resolve()), *_state(path)] for role, path in sorted(files.items())
    }
    look["config"] = [source.architecture, dict(source.settings), source.mean, source.std]
    return hashlib.sha256(json.dumps(look, sort_keys=True).encode()).hexdigest()


def _state(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _read_notes(cache: Path) -> dict[str, str]:
    try:
        notes: dict[str, str] = json.loads((cache / _NOTES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return notes
