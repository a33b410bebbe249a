"""The text a WebUI puts into its images: prompt, negative prompt, and one last line of `Key: value` pairs.

The WebUI takes the last line for the parameters only if it finds three pairs in it; otherwise the line belongs to
the prompt. So a field is always set inside that line, never below it, and the rest of the text keeps every byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

PARAMETER_LINE_HAS_AT_LEAST = 3

# Compiled at its first use, like all patterns here: not at the WebUI's start.
_PAIR = r"""
    \s* (?P<key> \w [\w\ \-/]{1,99} ) :           # "CFG scale", "Size-1"; unbounded, prose would take minutes
    \s* (?P<value> "(?: [^"\\] | \\. )+" | [^,]* ) # a JSON string, or whatever comes before the next comma
    (?: , | $ )
    """
_KEY = r"\w[\w \-/]+"
_NEGATIVE = "Negative prompt:"
_SCORE_LINE = r"\s*(?P<key>ImageReward Score): *(?P<value>\S+)\s*"
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
    if _is_parameter_line(lines[-1]):
        fields = _values(lines.pop())
    prompt, negative = _split_prompt(lines)
    return Infotext(prompt, negative, {**score_lines, **fields})


def has_parameter_line(text: str) -> bool:
    """Tell whether a field can be added without making up a line for it."""
    return _is_parameter_line(_last_line(_without_score_lines(text)[0]))


def with_fields(text: str, fields: Mapping[str, str]) -> str:
    """Set fields of the parameter line: replaced where they stand, else appended; all other bytes stay.

    A text without such a line gets one, which the WebUI will only take for one if it has three fields. Score
    lines below the parameters move into them, so that the text can be read again.
    """
    text, score_lines = _without_score_lines(text)
    fields = {**score_lines, **fields}
    end = len(text.rstrip())
    if _is_parameter_line(_last_line(text)):
        start = end - len(_last_line(text))
        return text[:start] + _line_with(text[start:end], fields) + text[end:]
    return text[:end] + ("\n" if end else "") + ", ".join(_written(fields)) + text[end:]


def without_field(text: str, key: str) -> str:
    """Take a field (or a score line of that name) out; all other bytes stay."""
    body, score_lines = _without_score_lines(text)
    if key in score_lines:
        return body
    last = _last_line(text)
    if not _is_parameter_line(last):
        return text
    start = len(text.rstrip()) - len(last)
    for match in reversed([m for m in _pairs(last) if m["key"] == key]):
        head, tail = last[: match.start()], last[match.end() :]
        last = (head + tail).lstrip() if tail.strip() else head.rstrip().removesuffix(",")
    return text[:start] + last + text[len(text.rstrip()) :]


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
        return str(json.loads(value))
    except ValueError:
        return value


def is_key(name: str) -> bool:
    """Tell whether a name can be a field's key."""
    return re.fullmatch(_KEY, name) is not None


def _line_with(line: str, fields: Mapping[str, str]) -> str:
    """Set fields in a parameter line.

    A value of some extension may hold a lone quotation mark that would swallow what is appended; then the new
    fields go to the front, where nothing can.
    """
    wanted = {**_values(line), **fields}
    changed = line
    for key, value in fields.items():
        changed = _replaced(changed, key, value)
    missing = _written({key: value for key, value in fields.items() if key not in _values(line)})
    if not missing:
        return changed
    appended = ", ".join([changed.rstrip().removesuffix(","), *missing])
    if _values(appended) == wanted:
        return appended
    return ", ".join([*missing, changed])


def _replaced(line: str, key: str, value: str) -> str:
    """Put a new value in the place of the last pair of this key, which is the one that counts."""
    found = [m for m in _pairs(line) if m["key"] == key]
    if not found:
        return line
    start, end = found[-1].span("value")
    return line[:start] + quote(value) + line[end:]


def _written(fields: Mapping[str, str]) -> list[str]:
    return [f"{key}: {quote(value)}" for key, value in fields.items()]


def _values(line: str) -> dict[str, str]:
    return {
        m["key"]: unquote(m["value"]) for m in _pairs(line) if m["value"]
    }  # as the WebUI, none without a value


def _pairs(line: str) -> list[re.Match[str]]:
    return list(re.finditer(_PAIR, line, re.VERBOSE))


def _is_parameter_line(line: str) -> bool:
    # Counting colons first spares the search on a long line of prose, where it would take long.
    return line.count(":") >= PARAMETER_LINE_HAS_AT_LEAST and len(_pairs(line)) >= PARAMETER_LINE_HAS_AT_LEAST


def _last_line(text: str) -> str:
    return text.strip().split("\n")[-1]


def _without_score_lines(text: str) -> tuple[str, dict[str, str]]:
    """Separate lines that another tool has put below the parameters."""
    values: dict[str, str] = {}
    body = text
    while match := re.fullmatch(_SCORE_LINE, _last_line(body)):
        values.setdefault(match["key"], match["value"])
        body = body[: len(body.rstrip()) - len(_last_line(body))].removesuffix("\n")
    return body, values


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
