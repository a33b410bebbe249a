"""The text a WebUI puts into its images: prompt, negative prompt, and one last line of `Key: value` pairs.

The WebUI takes the last line for the parameters only if it finds three pairs in it; otherwise the line belongs to
the prompt. So a field is always set inside that line, never below it, and the rest of the text keeps every byte.

These texts come out of other people's files. Each is read in one pass, so that what it costs grows with its length
and with nothing else, and one of more than LONGEST characters is refused.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from imagereward_ext.errors import MetadataError
from imagereward_ext.metadata.found_text import FoundText
from imagereward_ext.wording import well_formed

LONGEST = 2**17
"""Characters: some 20,000 words."""
PARAMETER_LINE_HAS_AT_LEAST = 3
LONGEST_KEY = 100
"""Characters. The WebUI knows no bound; but a line of prose whose first colon comes late is not one long key."""

_NEGATIVE = "Negative prompt:"
_SCORE_LINE = "ImageReward Score"
"""What the `image-reward` package's own WebUI script adds: a line below the parameters, which hides them."""


@dataclass(frozen=True)
class Infotext:
    """What the text says."""

    prompt: str = ""
    negative_prompt: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)


def parse(text: str) -> Infotext:
    """Read the text as the WebUI does, and past score lines that would keep the WebUI from reading it."""
    text, score_lines = _without_score_lines(text)
    lines = text.strip().split("\n")
    fields = {}
    pairs = _pairs(lines[-1])
    if len(pairs) >= PARAMETER_LINE_HAS_AT_LEAST:
        fields = _values(pairs)
        lines.pop()
    prompt, negative = _split_prompt(lines)
    return Infotext(prompt, negative, {**score_lines, **fields})


def within_bounds(found: FoundText) -> FoundText:
    """Leave out a text that is too long to be read."""
    size = len(found.text)
    return found if size <= LONGEST else FoundText("", _too_long(size))


def has_parameter_line(text: str) -> bool:
    """Tell whether a field can be added without making up a line for it."""
    body, _ = _without_score_lines(text)
    return len(_pairs(_last_line(body))) >= PARAMETER_LINE_HAS_AT_LEAST


def with_fields(text: str, fields: Mapping[str, str], without: Collection[str] = ()) -> str:
    """Set fields of the parameter line: replaced where they stand, else appended; those of `without` go.

    All other bytes stay. A text without such a line gets one, which the WebUI will only take for one if it has
    three fields. Score lines below the parameters move into them, so that the text can be read again.
    """
    body, score_lines = _without_score_lines(text)
    line = _last_line(body)
    pairs = _pairs(line)
    is_parameter_line = len(pairs) >= PARAMETER_LINE_HAS_AT_LEAST
    if is_parameter_line:  # its own values count, here as in `parse`
        score_lines = {key: value for key, value in score_lines.items() if key not in _values(pairs)}
    fields = {key: value for key, value in {**score_lines, **fields}.items() if key not in without}
    end = len(body.rstrip())
    if is_parameter_line:
        return body[: end - len(line)] + _line_with(line, pairs, fields, without) + body[end:]
    if not fields:
        return body
    return body[:end] + ("\n" if end else "") + ", ".join(_written(fields)) + body[end:]


def without_fields(text: str, keys: Collection[str]) -> str:
    """Take fields (and score lines of these names) out; all other bytes stay."""
    body, score_lines = _without_score_lines(text)
    present = {*score_lines, *(pair.key for pair in _pairs(_last_line(body)))}
    return text if present.isdisjoint(keys) else with_fields(text, {}, keys)


def quote(value: str) -> str:
    """Write a value as the WebUI does: JSON where a comma, colon or line break would end it too early.

    Beyond the WebUI's own rule, what would not come back as it was is quoted too: quotes, spaces at the ends.
    """
    if value and value == value.strip() and not any(mark in value for mark in ',:\n"'):
        return value
    return json.dumps(value, ensure_ascii=False)


def unquote(value: str) -> str:
    """Read a value as the WebUI does; a broken JSON string is taken as it stands."""
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    try:
        return well_formed(str(json.loads(value)))
    except ValueError:
        return value


def is_key(name: str) -> bool:
    """Tell whether a name can be a field's key."""
    return 2 <= len(name) <= LONGEST_KEY and _is_letter(name[0]) and all(map(_is_of_a_key, name))


class _Pair(NamedTuple):
    """A `Key: value` and where it stands in its line."""

    key: str
    value: str
    """As it is written."""
    is_string: bool
    """Whether the value is a whole JSON string, which may hold commas."""
    start: int
    """With the blanks before the key."""
    value_start: int
    value_end: int
    end: int
    """With the comma behind the value."""


def _pairs(line: str) -> list[_Pair]:
    """Read the pairs of a line from left to right; what stands between them is no pair."""
    pairs: list[_Pair] = []
    position = 0
    colon = line.find(":")
    while colon >= 0:
        key_start = _key_start(line, position, colon)
        if key_start is None:
            colon = line.find(":", colon + 1)
            continue
        start = key_start
        while start > position and line[start - 1].isspace():
            start -= 1
        value_start = colon + 1
        while value_start < len(line) and line[value_start].isspace():
            value_start += 1
        string_end = _string_end(line, value_start)
        value_end = _comma_or_end(line, value_start) if string_end is None else string_end
        position = min(value_end + 1, len(line))
        pairs.append(
            _Pair(
                line[key_start:colon],
                line[value_start:value_end],
                string_end is not None,
                start,
                value_start,
                value_end,
                position,
            )
        )
        colon = line.find(":", position)
    return pairs


def _key_start(line: str, earliest: int, colon: int) -> int | None:
    """Find where the key before a colon begins: "CFG scale", "Size-1"; a letter, and one more character at least."""
    key_start = None
    position = colon
    while position > max(earliest, colon - LONGEST_KEY) and _is_of_a_key(line[position - 1]):
        position -= 1
        if position <= colon - 2 and _is_letter(line[position]):
            key_start = position
    return key_start


def _string_end(line: str, start: int) -> int | None:
    """Find the end of a JSON string that is a whole value: it is not empty, and a comma or the end follows."""
    if not line.startswith('"', start):
        return None
    position = start + 1
    while position < len(line) and line[position] != '"':
        position += 2 if line[position] == "\\" else 1
    end = position + 1
    is_whole = start + 1 < position < len(line) and line[end : end + 1] in ("", ",")
    return end if is_whole else None


def _comma_or_end(line: str, start: int) -> int:
    comma = line.find(",", start)
    return len(line) if comma < 0 else comma


def _is_of_a_key(letter: str) -> bool:
    return _is_letter(letter) or letter in " -/"


def _is_letter(letter: str) -> bool:
    return letter.isalnum() or letter == "_"


def _values(pairs: list[_Pair]) -> dict[str, str]:
    return {
        pair.key: unquote(pair.value) for pair in pairs if pair.value
    }  # as the WebUI, none without a value


def _line_with(line: str, pairs: list[_Pair], fields: Mapping[str, str], without: Collection[str]) -> str:
    """Set and take out fields of a parameter line.

    A value of some extension may begin with a lone quotation mark, which swallows its neighbours when the next mark
    goes away or comes nearer. So what comes out is read again, and where that happened another way is taken.
    """
    wanted = {key: value for key, value in {**_values(pairs), **fields}.items() if key not in without}
    for changed in _ways_to_change(line, fields, without):
        if _values(_pairs(changed.strip())) == wanted:  # as it is read: without blanks at its ends
            return changed
    raise MetadataError("its parameters cannot be changed without changing what other fields say")


def _ways_to_change(line: str, fields: Mapping[str, str], without: Collection[str]) -> Iterator[str]:
    """Change the line as it is, or else one that says the same more plainly; new fields come last, or else first.

    A comma at the end keeps the blanks of a value before it.
    """
    for written in (line, _with_plain_bounds(line)):
        pairs = _pairs(written)
        edited = _edited(written, pairs, fields, without)
        present = {pair.key for pair in pairs}
        missing = _written({key: value for key, value in fields.items() if key not in present})
        before = edited.rstrip().removesuffix(",") if missing else edited
        yield ", ".join(filter(None, [before, *missing]))
        yield ", ".join(filter(None, [*missing, edited]))
        yield ", ".join(filter(None, [*missing, edited.removesuffix(",")])) + ","


def _edited(line: str, pairs: list[_Pair], fields: Mapping[str, str], without: Collection[str]) -> str:
    """Replace values, each in the last pair of its key (the one that counts), and cut fields out."""
    last = {pair.key: pair for pair in pairs}
    kept = []
    position = 0
    for pair in pairs:
        if pair.key in without:
            kept.append(line[position : pair.start])
            position = pair.end
        elif pair.key in fields and pair is last[pair.key]:
            kept += [line[position : pair.value_start], quote(fields[pair.key])]
            position = pair.value_end
    rest = line[position:]
    edited = "".join([*kept, rest])
    if last.keys().isdisjoint(without):
        return edited
    return edited.lstrip() if rest.strip() else edited.strip().removesuffix(",")


def _with_plain_bounds(line: str) -> str:
    """Close strings that were never closed, and put a comma between a pair and text before it that is none."""
    kept = []
    position = 0
    for pair in _pairs(line):
        kept.append(line[position : pair.start])
        if pair.start and line[pair.start - 1] != ",":
            kept.append(",")
        is_open = pair.value.startswith('"') and not pair.is_string
        kept += [
            line[pair.start : pair.value_start],
            quote(unquote(pair.value)) if is_open else pair.value,
            line[pair.value_end : pair.end],
        ]
        position = pair.end
    return "".join([*kept, line[position:]])


def _written(fields: Mapping[str, str]) -> list[str]:
    return [f"{key}: {quote(value)}" for key, value in fields.items()]


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


def _without_score_lines(text: str) -> tuple[str, dict[str, str]]:
    """Separate lines that another tool has put below the parameters."""
    if len(text) > LONGEST:
        raise MetadataError(_too_long(len(text)))
    values: dict[str, str] = {}
    begin = len(text) - len(text.lstrip())
    end = len(text)
    while True:
        stop = end
        while stop > begin and text[stop - 1].isspace():
            stop -= 1
        start = max(text.rfind("\n", begin, stop) + 1, begin)
        value = _score_line(text[start:stop])
        if value is None:
            return text[:end], values
        values.setdefault(_SCORE_LINE, value)
        end = start - 1 if start and text[start - 1] == "\n" else start


def _too_long(size: int) -> str:
    return f"its text has {size:,} characters; more than {LONGEST:,} are not read"


def _score_line(line: str) -> str | None:
    """Return the score that a line consists of."""
    key, colon, rest = line.strip().partition(":")
    value = rest.lstrip(" ")
    return value if key == _SCORE_LINE and colon and value.split() == [value] else None


def _split_prompt(lines: list[str]) -> tuple[str, str]:
    prompt: list[str] = []
    negative: list[str] = []
    part = prompt
    for line in (line.strip() for line in lines):
        if line.startswith(_NEGATIVE):
            part = negative
            line = line.removeprefix(_NEGATIVE).strip()
        # An empty first line leaves no trace, as in the WebUI.
        if part or line:
            part.append(line)
    return "\n".join(prompt), "\n".join(negative)
