"""A score as it stands in an image's text: `ImageReward: -0.5312, ImageReward hash: 1a2b3c4d5e`.

The hash is that of the weights, as in the WebUI's `Model hash`, so a score is never taken for that of a newer
model. `ImageReward prompt: "..."` follows when the text that was scored is not the image's own prompt, and where
the mark needs a line of its own, because the WebUI takes only three pairs for parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from imagereward_ext.errors import MetadataError
from imagereward_ext.metadata import infotext
from imagereward_ext.wording import well_formed

DECIMALS = 4
PEER_LABEL = "ImageReward"
_PEER_KEY = "ImageReward Score"
_DIGEST_LENGTH = 10
_PARTS = ("", " hash", " prompt")
"""What follows the label in the keys of a mark."""
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
        if not is_label(self.label):
            raise MetadataError(
                f"a score cannot be stored under the label {self.label!r}: two or more letters, digits, blanks, - or /, "
                f"and at most {infotext.LONGEST_KEY - len(max(_PARTS, key=len))}"
            )
        if not math.isfinite(self.value):
            raise MetadataError(f"{self.label} gave {self.value}, which is no score")

    def fields(self, decimals: int = DECIMALS) -> dict[str, str]:
        """Return what goes into the parameter line, not quoted yet (the WebUI quotes by itself)."""
        fields = {self.label: rounded(self.value, decimals)}
        if self.digest:
            fields[f"{self.label} hash"] = self.digest
        if self.prompt is not None:
            fields[f"{self.label} prompt"] = well_formed(self.prompt)
        return fields

    def answers(self, label: str, digest: str, prompt: str, own_prompt: str) -> bool:
        """Tell whether this is what that scorer would say about that prompt, so that nothing need be computed."""
        scored = own_prompt if self.prompt is None else self.prompt
        return bool(self.digest) and (self.label, self.digest, scored) == (label, digest, prompt)


def rounded(value: float, decimals: int = DECIMALS) -> str:
    """Write a score; zero has no sign."""
    return f"{round(value, decimals) + 0.0:.{decimals}f}"


def is_label(name: str) -> bool:
    """Tell whether all keys of a mark under this label can be read again."""
    return infotext.is_key(name) and all(infotext.is_key(name + part) for part in _PARTS)


def find_mark(text: str, label: str) -> ScoreMark | None:
    """Read one scorer's mark."""
    return mark_among(infotext.parse(text).fields, label)


def find_marks(text: str) -> list[ScoreMark]:
    """Read the marks of all scorers."""
    return marks_among(infotext.parse(text).fields)


def marks_among(fields: Mapping[str, str]) -> list[ScoreMark]:
    """Read the marks of all scorers from the fields of a text."""
    hashed = [key.removesuffix(" hash") for key in fields if key.endswith(" hash")]
    labels = [
        label
        for label in hashed
        if label not in _PAIRS_OF_THE_WEBUI and _is_digest(fields[f"{label} hash"]) and is_label(label)
    ]
    marks = [mark_among(fields, label) for label in dict.fromkeys([PEER_LABEL, *labels])]
    return [mark for mark in marks if mark is not None]


def mark_among(fields: Mapping[str, str], label: str) -> ScoreMark | None:
    """Read one scorer's mark from the fields of a text."""
    value = _number(fields.get(label, ""))
    if value is not None:
        digest = fields.get(f"{label} hash", "")
        return ScoreMark(label, value, digest, fields.get(f"{label} prompt"))
    if label == PEER_LABEL and (old := _finite(fields.get(_PEER_KEY, ""))) is not None:
        return ScoreMark(label, old)
    return None


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
    labels = [mark.label for mark in find_marks(text)]
    return infotext.without_fields(text, {key for label in labels for key in _keys(label)})


def _set(text: str, label: str, fields: Mapping[str, str], scored_prompt: str) -> str:
    """Set one label's fields and take out what an earlier mark of it said about another text or other weights."""
    before = infotext.parse(text).fields
    stale = {key for key in _keys(label) if key not in fields and before.get(key) != scored_prompt}
    return infotext.with_fields(text, fields, without=stale)


def _keys(label: str) -> list[str]:
    """Name all fields that a mark of this label may consist of."""
    return [*(label + part for part in _PARTS), *([_PEER_KEY] if label == PEER_LABEL else [])]


def _is_digest(text: str) -> bool:
    return len(text) == _DIGEST_LENGTH and set(text) <= set("0123456789abcdef")


def _number(text: str) -> float | None:
    """Read a score as it is written, such as -0.5312; None for anything else."""
    text = text.strip()
    unsigned = text[1:] if text[:1] in ("+", "-") else text
    whole, point, decimals = unsigned.partition(".")
    if not whole.isdecimal() or (point and not decimals.isdecimal()):
        return None
    return _finite(text)


def _finite(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
