"""Scores for a list of files: the next images are read while the network works, and one bad file stops nothing."""

from __future__ import annotations

import argparse
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagereward_ext.cli.image_options import chosen_prompt
from imagereward_ext.cli.messages import say, shorten
from imagereward_ext.cli.progress import progress_bar
from imagereward_ext.cli.scorer_options import load_chosen_scorer
from imagereward_ext.cli.stopping import reporting_stops, uninterrupted
from imagereward_ext.errors import ImageRewardError, MetadataError
from imagereward_ext.images import open_image
from imagereward_ext.memory import is_out_of_memory
from imagereward_ext.metadata import records
from imagereward_ext.metadata.records import ImageRecord
from imagereward_ext.metadata.score_mark import ScoreMark
from imagereward_ext.wording import counted

if TYPE_CHECKING:
    from PIL import Image

    from imagereward_ext.scorers import Scorer

COLUMNS = ("file", "score", "scorer", "hash", "prompt", "prompt_from", "stored", "unread", "error")
_READERS = 4
_READ_AHEAD = 16
_BATCH_PIXELS = 2**26
"""A batch of very large images is cut short here (64 megapixels, 0.2 GB), so that memory stays bounded."""
_UNREAD_PROMPTS_TOLD = 5


@dataclass(frozen=True)
class Outcome:
    """What came of one file."""

    path: Path
    score: float | None = None
    prompt: str = ""
    """The text it was scored under."""
    prompt_from: str = ""
    stored: bool = False
    """The score was in the file already."""
    unread: str = ""
    """The end of the text that the scorer cannot read."""
    error: str = ""
    """What went wrong; a score may be there all the same, when only writing it failed."""

    def record(self, scorer: Scorer) -> dict[str, Any]:
        """Return what --json and --csv show."""
        return {
            "file": str(self.path),
            "score": None if self.score is None else round(self.score, 6),
            "scorer": scorer.name,
            "hash": scorer.digest,
            "prompt": self.prompt,
            "prompt_from": self.prompt_from,
            "stored": self.stored,
            "unread": self.unread,
            "error": self.error,
        }


@dataclass(frozen=True)
class Request:
    """How files are to be scored."""

    scorer: Scorer
    prompt: str | None = None
    """The text for all images; None takes each image's own."""
    write: bool = False
    only_unscored: bool = False
    keep_times: bool = False

    @classmethod
    def from_options(cls, options: argparse.Namespace) -> Request:
        """Load the scorer that the options name; a wrong text is told before that takes its time."""
        prompt = chosen_prompt(options)
        return cls(
            load_chosen_scorer(options), prompt, options.write, options.only_unscored, options.keep_times
        )


@dataclass(frozen=True)
class _Ready:
    """An image in memory, waiting for its score."""

    image: Image.Image
    record: ImageRecord
    outcome: Outcome


def score_files(request: Request, paths: Sequence[Path], use: Callable[[Outcome], object]) -> None:
    """Score files and hand each outcome to `use`, in the order given, as soon as it is known.

    There is a progress bar, and a line for everything that goes wrong. Ctrl-C ends the work between two files,
    or within one that is then left as it was.
    """
    done = 0
    unread = _UnreadNotes()
    whole = "all files are whole"
    with (
        reporting_stops(lambda: f"{done:,} of {counted(len(paths), 'image')} done, {whole}"),
        progress_bar(len(paths), "image") as advance,
    ):
        for outcome in _outcomes(request, paths):
            if outcome.error:
                say(f"error: {outcome.error}")
            unread.tell(outcome, request.scorer)
            use(outcome)
            done += 1
            advance(1)
        unread.sum_up(request.scorer)


def failures(outcomes: Sequence[Outcome], problems: int = 0) -> int:
    """Say how many things failed, and count them."""
    failed = sum(bool(outcome.error) for outcome in outcomes)
    if failed and len(outcomes) > 1:
        say(f"{failed:,} of {counted(len(outcomes), 'image')} failed; the reasons are listed above")
    return failed + problems


def _outcomes(request: Request, paths: Sequence[Path]) -> Iterator[Outcome]:
    batch_size = getattr(request.scorer, "batch_size", 8)
    batch: list[_Ready | Outcome] = []
    waiting = pixels = 0
    for item in _read_ahead(lambda path: _prepared(request, path), paths):
        batch.append(item)
        if isinstance(item, _Ready):
            waiting += 1
            pixels += item.image.width * item.image.height
        if waiting == 0 or waiting >= batch_size or pixels >= _BATCH_PIXELS:
            yield from _scored(request, batch)
            batch, waiting, pixels = [], 0, 0
    yield from _scored(request, batch)


def _read_ahead(
    read: Callable[[Path], _Ready | Outcome], paths: Sequence[Path]
) -> Iterator[_Ready | Outcome]:
    """Read files in threads, a bounded number ahead of whoever takes them, in order."""
    pending: deque[Future[_Ready | Outcome]] = deque()
    pool = ThreadPoolExecutor(_READERS, thread_name_prefix="imagereward-read")
    try:
        for path in paths:
            pending.append(pool.submit(read, path))
            if len(pending) >= _READ_AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _prepared(request: Request, path: Path) -> _Ready | Outcome:
    """Read a file as far as it is needed: its text, and its picture unless the score is there already."""
    outcome = Outcome(path)
    try:
        record, broken = _record(path)
        outcome = _with_prompt(outcome, request, record)
        if request.only_unscored and (mark := _answer(request, record, outcome.prompt)) is not None:
            return replace(outcome, score=mark.value, stored=True)
        image = open_image(path)
        if not outcome.prompt:
            missing = record.flaw or "has no prompt in it, nor a .txt beside it"
            raise broken or MetadataError(f"{path}: {missing}; give one with --prompt")
        return _Ready(image, record, outcome)
    except ImageRewardError as error:
        return replace(outcome, error=str(error))


def _record(path: Path) -> tuple[ImageRecord, MetadataError | None]:
    """Read what a file says about itself; what is wrong with it matters only if the picture can be decoded."""
    try:
        return records.read(path), None
    except MetadataError as error:
        return ImageRecord(path, "", "", None), error


def _with_prompt(outcome: Outcome, request: Request, record: ImageRecord) -> Outcome:
    if request.prompt is not None:
        return replace(outcome, prompt=request.prompt, prompt_from="--prompt")
    if record.prompt and record.own_prompt is not None:
        return replace(outcome, prompt=record.prompt, prompt_from=record.own_prompt.source)
    if record.earlier_prompt:
        return replace(outcome, prompt=record.earlier_prompt, prompt_from="earlier score")
    return outcome


def _answer(request: Request, record: ImageRecord, prompt: str) -> ScoreMark | None:
    """Find a score in the file that says what this scorer would say."""
    mark = record.mark(request.scorer.label)
    if mark is None or not prompt:
        return None
    holds = mark.answers(request.scorer.label, request.scorer.digest, prompt, record.prompt)
    return mark if holds else None


def _scored(request: Request, batch: Sequence[_Ready | Outcome]) -> Iterator[Outcome]:
    ready = [item for item in batch if isinstance(item, _Ready)]
    scores = iter(_scores(request.scorer, ready))
    for item in batch:
        yield _finished(request, item, next(scores)) if isinstance(item, _Ready) else item


def _finished(request: Request, item: _Ready, score: float | str) -> Outcome:
    """Make the outcome of an image the network has seen, and write its score if that was asked for."""
    path = item.outcome.path
    if isinstance(score, str):
        return replace(item.outcome, error=f"{path}: {score}")
    outcome = replace(item.outcome, score=score, unread=request.scorer.unread(item.outcome.prompt))
    if not request.write:
        return outcome
    own = outcome.prompt == item.record.prompt
    try:
        mark = ScoreMark(request.scorer.label, score, request.scorer.digest, None if own else outcome.prompt)
        with uninterrupted():
            records.write_mark(path, mark, keep_times=request.keep_times)
    except ImageRewardError as error:
        return replace(outcome, error=str(error))
    return outcome


def _scores(scorer: Scorer, ready: Sequence[_Ready]) -> list[float | str]:
    """Score a batch: a number for each image, or why there is none. One that fails takes no other with it."""
    if not ready:
        return []
    try:
        values = scorer.score([item.image for item in ready], [item.outcome.prompt for item in ready])
    except (ImageRewardError, RuntimeError, ValueError, MemoryError) as error:
        if len(ready) > 1:
            return [score for item in ready for score in _scores(scorer, [item])]
        return [f"could not be scored ({_reason(error)})"]
    return [value if math.isfinite(value) else f"the scorer gave {value}" for value in values]


def _reason(error: Exception) -> str:
    text = shorten(str(error), 200) or type(error).__name__
    return f"{text}; try a smaller --batch-size" if is_out_of_memory(error) else text


class _UnreadNotes:
    """Tells once per prompt how much of it the scorer does not read; a long list is summed up."""

    def __init__(self) -> None:
        self._prompts: set[str] = set()

    def tell(self, outcome: Outcome, scorer: Scorer) -> None:
        """Tell it about a prompt not seen before."""
        if not outcome.unread or outcome.prompt in self._prompts:
            return
        self._prompts.add(outcome.prompt)
        if len(self._prompts) <= _UNREAD_PROMPTS_TOLD:
            unread, words = len(outcome.unread.split()), len(outcome.prompt.split())
            say(
                f"note: {scorer.name} does not read the last {unread:,} of {counted(words, 'word')} "
                f'of "{shorten(outcome.prompt, 40)}": "{shorten(outcome.unread)}"'
            )

    def sum_up(self, scorer: Scorer) -> None:
        """Tell how many more there were."""
        more = len(self._prompts) - _UNREAD_PROMPTS_TOLD
        if more > 0:
            say(
                f"note: {counted(more, 'more prompt')} longer than what {scorer.name} reads (see --json for each)"
            )
