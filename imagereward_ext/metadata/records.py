"""What an image file says about itself: :func:`read` tells, :func:`write_mark` puts a score into it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from imagereward_ext.errors import MetadataError
from imagereward_ext.metadata.containers import read_texts, write_infotext
from imagereward_ext.metadata.infotext import Infotext, parse
from imagereward_ext.metadata.prompt import plain_prompt
from imagereward_ext.metadata.score_mark import DECIMALS, ScoreMark, mark_among, marks_among, with_mark
from imagereward_ext.metadata.sources import FoundPrompt, find_prompt


@dataclass(frozen=True)
class ImageRecord:
    """What is known about an image without looking at its pixels."""

    path: Path
    format: str
    """PNG, JPEG or WebP; "" for a format into which no score is written."""
    infotext: str
    own_prompt: FoundPrompt | None
    """The prompt as it was written, with the WebUI's syntax."""
    flaw: str = ""
    """Why a text in the file could not be read, or not whole; "" when all could."""

    @cached_property
    def parsed(self) -> Infotext:
        """What the infotext says."""
        return parse(self.infotext)

    @cached_property
    def prompt(self) -> str:
        """The image's own prompt as it is scored, "" when there is none."""
        return plain_prompt(self.own_prompt.text) if self.own_prompt else ""

    @property
    def earlier_prompt(self) -> str:
        """The text an image without an own prompt was scored under before, "" when that is not one text."""
        prompts = {mark.prompt for mark in self.marks() if mark.prompt}
        return prompts.pop() if len(prompts) == 1 else ""

    def mark(self, label: str) -> ScoreMark | None:
        """Return the score of one scorer."""
        return mark_among(self.parsed.fields, label)

    def marks(self) -> list[ScoreMark]:
        """Return the scores of all scorers."""
        return marks_among(self.parsed.fields)


def read(path: Path | str) -> ImageRecord:
    """Read what an image file says about itself."""
    path = Path(path)
    texts = read_texts(path)
    prompt, flaw = find_prompt(path, texts)
    return ImageRecord(path, texts.format, texts.infotext.text, prompt, texts.infotext.flaw or flaw)


def write_mark(
    path: Path | str, mark: ScoreMark, decimals: int = DECIMALS, *, keep_times: bool = False
) -> None:
    """Write a score into an image file, in place of an earlier one of the same label.

    A mark without a prompt says that the image's own prompt was scored.
    """
    record = read(path)
    scored = record.prompt if mark.prompt is None else mark.prompt
    try:
        changed = with_mark(record.infotext, mark, scored, decimals)
    except MetadataError as error:
        raise MetadataError(f"{record.path}: {error}") from error
    if changed != record.infotext:
        write_infotext(record.path, changed, keep_times=keep_times)
