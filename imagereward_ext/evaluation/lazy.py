"""Scorers that load their weights only when a score is missing.

A score's place in the cache hangs on the weights' digest, and that takes loading the scorer. So the digest is
remembered, as long as files and settings are those it was loaded from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import torch
from PIL import Image

from imagereward_ext.compute import Compute
from imagereward_ext.scorers import loading
from imagereward_ext.scorers.base import Scorer
from imagereward_ext.scorers.loading import Source
from imagereward_ext.weights import digests, locate
from imagereward_ext.weights.spec import ScorerSpec
from imagereward_ext.wording import Say


class LazyScorer:
    """A scorer's name and identity; the scorer itself when it is needed."""

    def __init__(self, source: Source, digest: str, dtype: torch.dtype, load: Callable[[], Scorer]) -> None:
        self.name, self.mean, self.std = source.name, source.mean, source.std
        self.digest = digest
        self.dtype = dtype
        self._load = load

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        """Load the scorer if this is the first time, and score."""
        return self._load().score(images, prompts)


def open_scorer(spec: ScorerSpec, compute: Compute | None = None, report: Say | None = None) -> LazyScorer:
    """Find a scorer; load it now only when its digest is not known."""
    compute = compute or Compute()
    loaded: list[Scorer] = []

    def load() -> Scorer:
        if not loaded:
            loaded.append(loading.load_scorer(spec, compute=compute, report=report))
        return loaded[0]

    def digest() -> str:
        return load().digest

    source = loading.find_source(spec, report)
    if source.architecture == "mix":  # its identity hangs on other files; it is read anew each time
        known = digest()
    else:
        known = _remembered(source, digest)
        if loaded:  # loading may have converted the weights: how they look now is remembered too
            _remembered(loading.find_source(spec, report), digest)
    return LazyScorer(source, known, compute.for_scoring().dtype, load)


def _remembered(source: Source, digest: Callable[[], str]) -> str:
    files = {"weights": source.weights, **source.companions}
    copy = locate.converted(source.weights)
    if copy != source.weights and copy.is_file():  # it may be what is opened
        files["copy"] = copy
    roles = sorted(files)
    settings = json.dumps(dict(source.settings), sort_keys=True)
    more = [source.architecture, settings, *roles]
    return digests.remembered([files[role] for role in roles], more, digest)
