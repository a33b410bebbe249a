"""The prompt as a person would say it: without the WebUI's syntax, with all of its words.

A scorer was trained on plain sentences. Weights, schedules and network tags are instructions to the sampler; the
words inside them are still what the image should show.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

# Text, compiled by `re` at its first use: the WebUI imports this at its start and needs none of it then.
_LONE_SURROGATES = "[\ud800-\udfff]"
_TAG = r"<\w+:[^<>]+>"
_TAGS_FIRST = rf"^(?:[\s,]*{_TAG})+[\s,]*"
_TAGS_BETWEEN = rf"(?:[\s,]*{_TAG})+(?=\s*(?:,|$))"
_BREAK = r"[\s,]*\bBREAK\b(?=\s*(?:,|$))|\bBREAK\b"
_AND = r"\bAND\b"
_WEIGHT_OF_PART = r":\s*(?P<weight>[-+]?(?:\d+\.?\d*|\.\d+))\s*$"
_TOKEN = r"\\.|[()\[\]|:]|[^\\()\[\]|:]+|\\"
_NUMBER = r"\s*[-+]?(?:\d+\.?\d*|\.\d+)\s*"


def plain_prompt(text: str) -> str:
    r"""Take the WebUI's syntax out of a prompt.

    >>> plain_prompt("a (red:1.3) [fox], <lora:fur:0.8> in [snow:rain:0.5] BREAK [at night|by day], \(film\)")
    'a red fox, in snow rain at night by day, (film)'
    """
    # Half a character (from a JSON escape, or bytes of a terminal) can neither be scored nor stored.
    text = re.sub(_LONE_SURROGATES, "\N{REPLACEMENT CHARACTER}", text)
    text = " ".join(text.split())
    text = _without_tags(text)
    text = re.sub(_BREAK, " ", text)
    words = " ".join(_without_brackets(part) for part in _wanted_parts(text))
    return re.sub(r" +(?=,)", "", " ".join(words.split()))


def _without_tags(text: str) -> str:
    """Take network tags out, with the comma that only set them apart."""
    text = re.sub(_TAGS_FIRST, "", text)
    text = re.sub(_TAGS_BETWEEN, "", text)
    return re.sub(_TAG, " ", text)


def _wanted_parts(text: str) -> Iterable[str]:
    """Split at AND; a part of negative or no weight says what the image should not show, and is left out."""
    parts = re.split(_AND, text)
    if len(parts) == 1:
        return parts
    wanted = []
    for part in parts:
        match = re.search(_WEIGHT_OF_PART, part)
        if match is None or float(match["weight"]) > 0:
            wanted.append(re.sub(_WEIGHT_OF_PART, "", part))
    return wanted


@dataclass
class _Group:
    """An open bracket: its text so far, cut at each colon or bar of its own level."""

    bracket: str = ""
    pieces: list[str] = field(default_factory=lambda: [""])
    separators: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        self.pieces[-1] += text

    def cut(self, separator: str) -> None:
        self.separators.append(separator)
        self.pieces.append("")

    def as_written(self) -> str:
        return self.pieces[0] + "".join(s + p for s, p in zip(self.separators, self.pieces[1:], strict=True))

    def closed(self) -> str:
        """Say what stays when the closing bracket is reached."""
        if self.bracket == "[" and "|" in self.separators:  # alternation
            return _joined(self.pieces)
        if self.separators and re.fullmatch(_NUMBER, self.pieces[-1]):
            if self.bracket == "(":  # attention: the words, and behind the last colon the weight
                self.pieces.pop()
                self.separators.pop()
            elif len(self.pieces) <= 3:  # schedule: before and after, and when
                return _joined(self.pieces[:-1])
        return self.as_written()


def _without_brackets(text: str) -> str:
    """Resolve brackets from the inside out; a bracket without its partner is treated as the WebUI does."""
    groups = [_Group()]
    for token in re.findall(_TOKEN, text, re.DOTALL):
        if token[0] == "\\":
            groups[-1].add(token[1:])
        elif token in "([":
            groups.append(_Group(token))
        elif token in ")]":
            _close(groups, token)
        elif token in ":|":
            groups[-1].cut(token)
        else:
            groups[-1].add(token)
    _flatten(groups, 1)
    return groups[0].as_written()


def _close(groups: list[_Group], token: str) -> None:
    opening = "(" if token == ")" else "["
    depth = next((d for d in range(len(groups) - 1, 0, -1) if groups[d].bracket == opening), None)
    if depth is None:
        groups[-1].add(token)  # nothing to close: a smiley
        return
    _flatten(groups, depth + 1)
    group = groups.pop()
    groups[-1].add(group.closed())


def _flatten(groups: list[_Group], depth: int) -> None:
    """Drop brackets that were never closed, and keep what is in them."""
    while len(groups) > depth:
        group = groups.pop()
        groups[-1].add(group.as_written())


def _joined(pieces: Iterable[str]) -> str:
    return " ".join(piece for piece in pieces if piece.strip())
