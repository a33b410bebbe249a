"""Where the prompts of a training come from: typed, a file, a built-in theme, or the user's own images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from imagereward_ext.errors import ImageRewardError, UsageError
from imagereward_ext.evaluation.statistics import ENOUGH_PROMPTS
from imagereward_ext.metadata import records
from imagereward_ext.storage import write_text
from imagereward_ext.wording import counted

TYPED, FILE, THEME, OUTPUTS = "typed below", "from a file", "a built-in set", "of my own images"
SOURCES = (TYPED, FILE, THEME, OUTPUTS)
FEWEST = 2
FEWEST_TO_SHARE = 30
"""From so many different prompts on, some are kept from the training: fewer are needed for it whole."""
MOST_IMAGES_READ = 2000
"""Newest first: a folder of years would take minutes to read."""
_IMAGES = (".png", ".jpg", ".jpeg", ".webp")


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


def from_images(folders: Iterable[Path]) -> list[str]:
    """Read the prompts that the newest images were made from, each once."""
    found: dict[str, None] = {}
    for path in _newest(folders):
        try:
            prompt = records.read(path).prompt
        except (ImageRewardError, OSError, ValueError):
            continue
        if prompt:
            found[prompt] = None
    return _enough(list(found), "your outputs folder")


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


def keep(prompts: list[str], folder: Path) -> Path:
    """Write prompts into a file named by its content: the same ones are the same file."""
    text = json.dumps(prompts, ensure_ascii=False, indent=0)
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    try:
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
    except OSError as error:
        raise UsageError(f"the prompts cannot be kept: {error.strerror or error}") from error
    return path


def _newest(folders: Iterable[Path]) -> list[Path]:
    paths = [
        path for folder in folders if folder.is_dir() for path in folder.rglob("*")
        if path.suffix.lower() in _IMAGES and not path.name.startswith("grid-")
    ]  # fmt: skip
    return sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)[:MOST_IMAGES_READ]


def _enough(prompts: list[str], place: str) -> list[str]:
    if len(prompts) < FEWEST:
        raise UsageError(f"{place} holds {counted(len(prompts), 'prompt')}; at least {FEWEST} are needed")
    return prompts
