"""Where the prompts of a training come from: typed, a file, a built-in theme, or the user's own images."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from imagereward_ext.errors import ImageRewardError, UsageError
from imagereward_ext.evaluation.statistics import ENOUGH_PROMPTS
from imagereward_ext.images import SUFFIXES
from imagereward_ext.metadata import records
from imagereward_ext.wording import counted

TYPED, FILE, THEME, OUTPUTS = "typed below", "from a file", "a built-in set", "of my own images"
SOURCES = (TYPED, FILE, THEME, OUTPUTS)
FEWEST = 2
FEWEST_TO_SHARE = 30
"""From so many different prompts on, some are kept from the training: fewer are needed for it whole."""
MOST_IMAGES_READ = 2000
"""Newest first: a folder of years would take minutes to read."""


@lru_cache(maxsize=1)
def themes() -> dict[str, list[str]]:
    """Return the built-in prompts by theme."""
    content = json.loads(Path(__file__).with_name("themes.json").read_text(encoding="utf-8"))
    sets = {
        theme: [f"{of}, {how}" for how in parts["how"] for of in parts["of"]]
        for theme, parts in content.items()
    }
    return {"everything": [prompt for prompts in sets.values() for prompt in prompts], **sets}


def from_text(text: str) -> list[str]:
    """Take one prompt per line."""
    return _enough([line.strip() for line in text.splitlines() if line.strip()], "the text box")


def from_theme(theme: str) -> list[str]:
    """Take a built-in set."""
    if theme not in themes():
        raise UsageError(f"there is no set of prompts {theme!r}; there are {', '.join(themes())}")
    return themes()[theme]


def from_file(path: Path, name: str) -> list[str]:
    """Read a prompt file; errors speak of it by its name."""
    from imagereward_ext.diffusion.prompts import PromptError, read_prompts

    try:
        return read_prompts(path, FEWEST)
    except PromptError as error:
        raise PromptError(str(error).replace(str(path), name)) from error


class OwnImages:
    """The prompts that somebody's newest images were made from. A folder that has not changed is not read again."""

    def __init__(self) -> None:
        self._looking = threading.Lock()
        self._asked: tuple[Path, ...] = ()
        self._folders: dict[Path, int] = {}
        """Every folder that was looked into, with the time of its last change."""
        self._images: dict[Path, tuple[int, str]] = {}
        """The prompt of every image, with the time of its last change."""

    def prompts(self, folders: Iterable[Path]) -> list[str]:
        """Return each prompt once, that of the newest image first."""
        with self._looking:
            asked = tuple(folders)
            if asked != self._asked or any(
                _changed(folder) != time for folder, time in self._folders.items()
            ):
                self._look(asked)
            prompts = dict.fromkeys(prompt for _, prompt in self._images.values() if prompt)
        return _enough(list(prompts), "your outputs folder")

    def _look(self, asked: tuple[Path, ...]) -> None:
        self._folders = {}
        changed: dict[Path, int] = {}
        for top in asked:
            for folder, _, names in os.walk(top):
                self._folders[Path(folder)] = _changed(Path(folder))
                changed |= {path: _changed(path) for name in names if _is_image(path := Path(folder, name))}
            self._folders.setdefault(top, _changed(top))
        newest = sorted(changed, key=lambda path: changed[path], reverse=True)[:MOST_IMAGES_READ]
        self._images = {
            path: self._known(path, changed[path]) or (changed[path], _prompt_of(path)) for path in newest
        }
        self._asked = asked

    def _known(self, path: Path, time: int) -> tuple[int, str] | None:
        known = self._images.get(path)
        return known if known is not None and known[0] == time else None


def hold_out(prompts: list[str]) -> tuple[list[str], list[str]]:
    """Share prompts between the training and a comparison it never sees: a tenth, from all over the list.

    The second part is empty where there are too few to share.
    """
    different = list(dict.fromkeys(prompts))
    if len(different) < FEWEST_TO_SHARE:
        return prompts, []
    count = min(max(len(different) // 10, ENOUGH_PROMPTS), 100)
    held = {different[number * len(different) // count] for number in range(count)}
    return [prompt for prompt in prompts if prompt not in held], [one for one in different if one in held]


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith("grid-")


def _changed(path: Path) -> int:
    """Return when something was changed, in nanoseconds; 0 for what is not there."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _prompt_of(path: Path) -> str:
    try:
        return records.read(path).prompt
    except (ImageRewardError, OSError, ValueError):
        return ""


def _enough(prompts: list[str], place: str) -> list[str]:
    if len(prompts) < FEWEST:
        raise UsageError(f"{place} holds {counted(len(prompts), 'prompt')}; at least {FEWEST} are needed")
    return prompts
