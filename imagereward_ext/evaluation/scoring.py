"""Several scorers in one pass over many images, every score kept on disk.

A score is known by the image's content, the prompt, and the scorer's weights and precision: a second report over
the same images loads nothing and computes nothing, and an interrupted one goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from PIL import Image

from imagereward_ext.errors import ImageError, ScoringError
from imagereward_ext.images import open_image
from imagereward_ext.rankings import Problem
from imagereward_ext.storage import file_digest

# Counted up whenever the same weights would give other scores, so that old ones are not taken for new.
_VERSION = 1
_IMAGES_AT_ONCE = 32
_READERS = 4


class Item(NamedTuple):
    """An image under a prompt."""

    image: Path
    prompt: str


@dataclass(frozen=True)
class ScoreTable:
    """What every scorer gave every readable image."""

    by_scorer: Mapping[str, Mapping[Item, float]]
    problems: list[Problem]
    """Images that are missing or broken; no scorer has a score for them."""

    @property
    def scorers(self) -> list[str]:
        """Name the scorers in the order they were given."""
        return list(self.by_scorer)

    def of(self, scorer: str, items: Iterable[Item]) -> list[float]:
        """Return one scorer's scores of these."""
        table = self.by_scorer[scorer]
        return [table[item] for item in items]


class CanScore(Protocol):
    """A scorer, or what will load one when it is needed."""

    name: str
    digest: str
    mean: float
    std: float
    dtype: torch.dtype

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        """Score each image under its own prompt."""


class ScoreCache:
    """One scorer's scores, one line each in a file that is only appended to."""

    def __init__(self, folder: Path, scorer: CanScore) -> None:
        precision = str(scorer.dtype).removeprefix("torch.")
        standard = hashlib.sha256(json.dumps([scorer.mean, scorer.std, _VERSION]).encode()).hexdigest()[:6]
        self._path = folder / f"{scorer.digest}-{precision}-{standard}.jsonl"
        self._known = dict(_read_lines(self._path))

    def get(self, image_digest: str, prompt: str) -> float | None:
        """Return a score, None when it was never computed."""
        return self._known.get(_key(image_digest, prompt))

    def __getitem__(self, case: tuple[str, str]) -> float:
        """Return a score that was computed."""
        return self._known[_key(*case)]

    def add(self, scores: Mapping[tuple[str, str], float]) -> None:
        """Keep scores by (image digest, prompt)."""
        if not scores:
            return
        entries = {_key(*case): score for case, score in scores.items()}
        self._known.update(entries)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # The leading line end closes a line that a crash cut short.
        lines = "".join(f"\n{json.dumps(entry)}" for entry in entries.items())
        with self._path.open("a", encoding="utf-8") as file:
            file.write(lines)


def score_items(
    items: Sequence[Item],
    scorers: Sequence[CanScore],
    cache: Path,
    progress: Callable[[int], object] | None = None,
) -> ScoreTable:
    """Score every item with every scorer; each image is read once, and only when a score is missing.

    `cache` is the folder the scores are kept in; `progress` is told the number of images that were finished.
    """
    _require_names(scorers)
    caches = {scorer.name: ScoreCache(cache, scorer) for scorer in scorers}
    found: dict[str, dict[Item, float]] = {scorer.name: {} for scorer in scorers}
    problems: list[Problem] = []
    prompts_of = _prompts_by_image(items)
    with ThreadPoolExecutor(_READERS) as pool:
        for paths in _blocks(list(prompts_of), _IMAGES_AT_ONCE):
            digests = dict(zip(paths, pool.map(_digest_or_none, paths), strict=True))
            wanted = [
                path
                for path in paths
                if (digest := digests[path]) is not None
                and any(caches[s.name].get(digest, p) is None for s in scorers for p in prompts_of[path])
            ]
            images = dict(zip(wanted, pool.map(_open_or_problem, wanted), strict=True))
            readable = {path: image for path, image in images.items() if not isinstance(image, Problem)}
            for scorer in scorers:
                _score_missing(scorer, readable, digests, prompts_of, caches[scorer.name])
            for path in paths:
                image, digest = images.get(path), digests[path]
                if digest is None:
                    problems.append(Problem(path, "it does not exist or cannot be opened"))
                elif isinstance(image, Problem):
                    problems.append(image)
                else:
                    for name, known in caches.items():
                        found[name] |= {
                            Item(path, prompt): known[digest, prompt] for prompt in prompts_of[path]
                        }
            if progress is not None:
                progress(len(paths))
    return ScoreTable(found, problems)


def _prompts_by_image(items: Iterable[Item]) -> dict[Path, list[str]]:
    prompts_of: dict[Path, list[str]] = {}
    for item in dict.fromkeys(items):
        prompts_of.setdefault(item.image, []).append(item.prompt)
    return prompts_of


def _score_missing(
    scorer: CanScore,
    images: Mapping[Path, Image.Image],
    digests: Mapping[Path, str | None],
    prompts_of: Mapping[Path, list[str]],
    cache: ScoreCache,
) -> None:
    missing: dict[tuple[str, str], Image.Image] = {}
    for path, image in images.items():
        digest = digests[path]
        assert digest is not None
        for prompt in prompts_of[path]:
            if cache.get(digest, prompt) is None:
                missing[(digest, prompt)] = image
    if not missing:
        return
    scores = scorer.score(list(missing.values()), [prompt for _, prompt in missing])
    for (_, prompt), score in zip(missing, scores, strict=True):
        if not math.isfinite(score):
            raise ScoringError(
                f"{scorer.name} gave {score} for an image under the prompt {prompt!r}; try fp32"
            )
    cache.add(dict(zip(missing, scores, strict=True)))


def _require_names(scorers: Sequence[CanScore]) -> None:
    names = [scorer.name for scorer in scorers]
    if not names:
        raise ScoringError("no scorer was named")
    if twice := {name for name in names if names.count(name) > 1}:
        raise ScoringError(f"two scorers are called {twice.pop()!r}; give them different names")


def _blocks(paths: Sequence[Path], size: int) -> Iterator[Sequence[Path]]:
    for start in range(0, len(paths), size):
        yield paths[start : start + size]


def _digest_or_none(path: Path) -> str | None:
    try:
        return file_digest(path)
    except OSError:
        return None


def _open_or_problem(path: Path) -> Image.Image | Problem:
    try:
        return open_image(path)
    except ImageError as error:
        return Problem(path, str(error).removeprefix(f"{path}: "))


def _key(image_digest: str, prompt: str) -> str:
    return hashlib.sha256(f"{image_digest} {prompt}".encode()).hexdigest()[:32]


def _read_lines(path: Path) -> Iterator[tuple[str, float]]:
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            key, score = json.loads(line)
        except ValueError:  # empty, or cut short by a crash
            continue
        yield key, score
