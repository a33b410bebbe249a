"""Images that people ranked, read from the three layouts they come in. No torch.

* the ranking JSON of the ImageReward project: a list of `{"id", "prompt", "generations": [paths], "ranking": [ranks]}`;
* ImageRewardDB as published: folders `train_1/` with `train_1.json`, one record per image, grouped by `prompt_id`;
* a folder of images with a CSV of `image,prompt,rank`, the easiest to make by hand.

Rank 1 is the best; equal ranks are a tie and make no pair.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from imagereward_ext.errors import ImageError, ImageRewardError
from imagereward_ext.images import open_image

CSV_COLUMNS = ("image", "prompt", "rank")
_DB_COLUMNS = ("image_path", "prompt_id", "prompt", "rank")
_READERS = 8


class RankingsError(ImageRewardError):
    """A file of rankings that cannot be read, or that leaves nothing to compare."""


class Problem(NamedTuple):
    """An image that had to be left out, and why."""

    image: Path
    reason: str


@dataclass(frozen=True)
class RankedPrompt:
    """The images of one prompt and the rank of each (1 is the best, ties allowed)."""

    id: str
    prompt: str
    images: tuple[Path, ...]
    ranks: tuple[float, ...]

    def pairs(self) -> list[tuple[int, int]]:
        """List the comparisons as (better, worse) indices."""
        return ordered_pairs(self.ranks)


def ordered_pairs(ranks: Sequence[float]) -> list[tuple[int, int]]:
    """List (better, worse) for every two images of different rank."""
    return [
        (i, j) if ranks[i] < ranks[j] else (j, i)
        for i, j in combinations(range(len(ranks)), 2)
        if ranks[i] != ranks[j]
    ]


def count_pairs(prompts: Iterable[RankedPrompt]) -> int:
    """Count the comparisons of a whole set."""
    return sum(len(prompt.pairs()) for prompt in prompts)


def read_rankings(path: Path | str, images: Path | str | None = None) -> list[RankedPrompt]:
    """Read rankings from a JSON or CSV file, or from a folder that holds either.

    `images` is the folder that relative image paths start from; without it, the one the file lies in.
    """
    source = Path(path).expanduser()
    base = Path(images).expanduser() if images else None
    if source.is_dir():
        return _read_folder(source, base)
    if not source.is_file():
        raise RankingsError(
            f"{source} does not exist: give a rankings file (.json, .csv) or a folder with one"
        )
    return _read_file(source, base)


def verified(
    prompts: Sequence[RankedPrompt], progress: Callable[[int], None] | None = None
) -> tuple[list[RankedPrompt], list[Problem]]:
    """Drop images that are missing or cannot be decoded, and prompts that are left without a pair."""
    paths = list(dict.fromkeys(image for prompt in prompts for image in prompt.images))
    problems: dict[Path, Problem] = {}
    with ThreadPoolExecutor(_READERS) as pool:
        for path, reason in zip(paths, pool.map(_fault, paths), strict=True):
            if reason is not None:
                problems[path] = Problem(path, reason)
            if progress is not None:
                progress(1)
    return without(prompts, problems), list(problems.values())


def without(prompts: Iterable[RankedPrompt], images: Iterable[Path]) -> list[RankedPrompt]:
    """Leave these images out, and with them the prompts that have no pair any more."""
    unwanted = set(images)
    kept = []
    for prompt in prompts:
        rows = [row for row, image in enumerate(prompt.images) if image not in unwanted]
        rest = replace(
            prompt, images=tuple(prompt.images[r] for r in rows), ranks=tuple(prompt.ranks[r] for r in rows)
        )
        if rest.pairs():
            kept.append(rest)
    return kept


def split(
    prompts: Sequence[RankedPrompt], share: float, seed: int = 0
) -> tuple[list[RankedPrompt], list[RankedPrompt]]:
    """Hold a share of the prompts back: (training, held out). One text never lies on both sides.

    The choice hangs on the text alone, so it stays the same when rankings are added to the file.
    """

    def draw(prompt: RankedPrompt) -> str:
        return hashlib.sha256(f"{seed}\0{prompt.prompt}".encode()).hexdigest()

    texts = sorted({prompt.prompt: draw(prompt) for prompt in prompts}.items(), key=lambda item: item[1])
    count = round(share * len(texts))
    if share > 0 and len(texts) > 1:
        count = min(max(count, 1), len(texts) - 1)
    held = {text for text, _ in texts[:count]}
    return [p for p in prompts if p.prompt not in held], [p for p in prompts if p.prompt in held]


def _fault(path: Path) -> str | None:
    if not path.is_file():
        return "it does not exist"
    try:
        open_image(path)
    except ImageError as error:
        return str(error).removeprefix(f"{path}: ")
    return None


def _read_folder(folder: Path, images: Path | None) -> list[RankedPrompt]:
    parts = sorted(
        part for part in folder.rglob("*.json") if part.stem == part.parent.name and part.is_file()
    )
    tables = sorted(folder.glob("*.csv"))
    if parts:
        return [prompt for part in parts for prompt in _read_file(part, images)]
    if len(tables) == 1:
        return _read_file(tables[0], images)
    if tables:
        raise RankingsError(f"{folder} holds {len(tables)} CSV files: name the one with the ranks")
    hint = " (unpack the ZIP files in it first)" if next(folder.rglob("*.zip"), None) else ""
    raise RankingsError(
        f"{folder} holds no rankings{hint}: expected a CSV with the columns {', '.join(CSV_COLUMNS)}, "
        "or ImageRewardDB's folders such as train_1 with train_1.json"
    )


def _read_file(path: Path, images: Path | None) -> list[RankedPrompt]:
    try:
        if path.suffix.lower() == ".csv":
            with path.open(newline="", encoding="utf-8-sig") as file:
                records: Any = list(csv.DictReader(file))
        else:
            records = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, csv.Error) as error:
        raise RankingsError(f"{path} cannot be read: {error}") from error
    if (
        not isinstance(records, list)
        or not records
        or not all(isinstance(record, dict) for record in records)
    ):
        raise RankingsError(f"{path} holds no list of rankings")
    try:
        prompts = _from_records(records, path, images)
    except (KeyError, TypeError, ValueError) as error:
        raise RankingsError(f"{path}: {_what_is_wrong(error)}") from error
    return prompts


def _from_records(records: list[dict[str, Any]], path: Path, images: Path | None) -> list[RankedPrompt]:
    first = records[0]
    if "generations" in first:
        return [_from_ranking(record, images or path.parent) for record in records]
    if "image_path" in first:
        return _grouped(records, _DB_COLUMNS, lambda name: _db_image(name, path.parent, images))
    if "image" in first:
        base = images or path.parent
        columns = ("image", "prompt_id" if "prompt_id" in first else "prompt", "prompt", "rank")
        return _grouped(records, columns, lambda name: base / name)
    raise ValueError(
        f"has the fields {', '.join(map(str, first))}; expected generations and ranking, or {', '.join(CSV_COLUMNS)}"
    )


def _from_ranking(record: dict[str, Any], base: Path) -> RankedPrompt:
    images, ranks = record["generations"], record["ranking"]
    if len(images) != len(ranks):
        raise ValueError(f"prompt {record.get('id')!r} has {len(images)} images but {len(ranks)} ranks")
    return RankedPrompt(
        id=str(record.get("id", record["prompt"])),
        prompt=str(record["prompt"]),
        images=tuple(base / image for image in images),
        ranks=tuple(float(rank) for rank in ranks),
    )


def _grouped(
    records: list[dict[str, Any]], columns: Sequence[str], locate: Callable[[str], Path]
) -> list[RankedPrompt]:
    """Gather one record per image into prompts, in the order of the file."""
    image, identity, prompt, rank = columns
    groups: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault(str(record[identity]), []).append(record)
    result = []
    for key, members in groups.items():
        texts = {str(member[prompt]) for member in members}
        if len(texts) > 1:
            raise ValueError(f"{identity} {key!r} stands for {len(texts)} different prompts")
        paths = tuple(locate(str(member[image])) for member in members)
        result.append(RankedPrompt(key, texts.pop(), paths, tuple(_rank(m[rank], m[image]) for m in members)))
    return result


def _rank(value: Any, image: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"the rank of {image} is {value!r}; expected a number, 1 for the best") from None


def _db_image(name: str, folder: Path, images: Path | None) -> Path:
    """Find an image of ImageRewardDB: its path is written from the data set's root, the file lies beside the JSON."""
    beside = folder / Path(name).name
    return beside if images is None or beside.is_file() else images / name


def _what_is_wrong(error: Exception) -> str:
    return f"a record lacks {error}" if isinstance(error, KeyError) else str(error)
