"""A score as it stands in an image's text: `ImageReward: -0.5312, ImageReward hash: 1a2b3c4d5e`.

The hash is that of the weights, as in the WebUI's `Model hash`, so a score is never taken for that of a newer
model. `ImageReward prompt: "..."` follows when the text that was scored is not the image's own prompt, and where
the mark needs a line of its own, because the WebUI takes only three pairs for parameters.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from imagereward_ext.errors import MetadataError
from imagereward_ext.metadata import infotext

DECIMALS = 4
PEER_LABEL = "ImageReward"
_PEER_KEY = "ImageReward Score"
_DIGEST = r"[0-9a-f]{10}"
_NUMBER = r"[-+]?\d+(\.\d+)?"
_PAIRS_OF_THE_WEBUI = {"Model", "VAE"}
"""Keys with a `… hash` beside them that are no scores, whatever a checkpoint is called."""


@dataclass(frozen=True)
class ScoreMark:
    """One scorer's number for one image."""

    label: str
    value: float
    digest: str = ""
    """Identifies the scorer's weights; "" when unknown, as in marks of the `image-reward` package's script."""
    prompt: str | None = None
    """The text that was scored, None when it was the image's own prompt."""

    def __post_init__(self) -> None:
        if not infotext.is_key(self.label):
            raise MetadataError(
                f"a score cannot be stored under the label {self.label!r}: two or more letters, digits, blanks, - or /"
            )
        if not math.isfinite(self.value):
            raise MetadataError(f"{self.label} gave {self.value}, which is no score")

    def fields(self, decimals: int = DECIMALS) -> dict[str, str]:
        """Return what goes into the parameter line, not quoted yet (the WebUI quotes by itself)."""
        fields = {self.label: rounded(self.value, decimals)}
        if self.digest:
            fields[f"{self.label} hash"] = self.digest
        if self.prompt is not None:
            fields[f"{self.label} prompt"] = self.prompt
        return fields

    def answers(self, label: str, digest: str, prompt: str, own_prompt: str) -> bool:
        """Tell whether this is what that scorer would say about that prompt, so that nothing need be computed."""
        scored = own_prompt if self.prompt is None else self.prompt
        return bool(self.digest) and (self.label, self.digest, scored) == (label, digest, prompt)


def rounded(value: float, decimals: int = DECIMALS) -> str:
    """Write a score; zero has no sign."""
    return f"{round(value, decimals) + 0.0:.{decimals}f}"


def find_mark(text: str, label: str) -> ScoreMark | None:
    """Read one scorer's mark."""
    return _mark(infotext.parse(text).fields, label)


def find_marks(text: str) -> list[ScoreMark]:
    """Read the marks of all scorers."""
    fields = infotext.parse(text).fields
    hashed = [key.removesuffix(" hash") for key in fields if key.endswith(" hash")]
    labels = [
        label
        for label in hashed
        if label not in _PAIRS_OF_THE_WEBUI and re.fullmatch(_DIGEST, fields[f"{label} hash"])
    ]
    marks = [_mark(fields, label) for label in dict.fromkeys([PEER_LABEL, *labels])]
    return [mark for mark in marks if mark is not None]


def with_mark(text: str, mark: ScoreMark, scored_prompt: str, decimals: int = DECIMALS) -> str:
    """Set a mark in an image's text; an earlier one of the same label is replaced.

    `scored_prompt` is what the mark's number is for, needed where the text has no parameter line yet.
    """
    fields = mark.fields(decimals)
    result = _set(text, mark.label, fields, scored_prompt)
    if not infotext.has_parameter_line(result):
        return _set(text, mark.label, {**fields, f"{mark.label} prompt": scored_prompt}, scored_prompt)
    return result


def without_marks(text: str) -> str:
    """Take every score out."""
    for mark in find_marks(text):
        for key in mark.fields():
            text = infotext.without_field(text, key)
    return text


def _set(text: str, label: str, fields: Mapping[str, str], scored_prompt: str) -> str:
    """Set one label's fields and take out what an earlier mark of it said about another text or other weights."""
    before = infotext.parse(text).fields
    text = infotext.with_fields(text, fields)
    stale = [f"{label} hash", f"{label} prompt", *([_PEER_KEY] if label == PEER_LABEL else [])]
    for key in stale:
        if key not in fields and before.get(key) != scored_prompt:
            text = infotext.without_field(text, key)
    return text


def _mark(fields: Mapping[str, str], label: str) -> ScoreMark | None:
    number = fields.get(label, "").strip()
    if re.fullmatch(_NUMBER, number) and (value := _finite(number)) is not None:
        digest = fields.get(f"{label} hash", "")
        return ScoreMark(label, value, digest, fields.get(f"{label} prompt"))
    if label == PEER_LABEL and (old := _finite(fields.get(_PEER_KEY, ""))) is not None:
        return ScoreMark(label, old)
    return None


def _finite(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
