"""The prompt as a person would say it: without the WebUI's syntax, with all of its words.

A scorer was trained on plain sentences. Weights, schedules and network tags are instructions to the sampler; the
words inside them are still what the image should show.

Prompts come out of other people's files. So each step goes over the text once, from left to right, and what it
costs grows with the length of the text and with nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from imagereward_ext.wording import well_formed

_SEPARATORS = " ,"
_SIGNS = frozenset("()[]|:")
_PARTNERS = {")": "(", "]": "["}
_LONGEST_NUMBER = 16
"""Tokens that a bracket's weight may consist of. An outer bracket looks at what an inner one has left, so without a
bound a text of a thousand nested brackets would be read a thousand times."""


def plain_prompt(text: str) -> str:
    r"""Take the WebUI's syntax out of a prompt.

    >>> plain_prompt("a (red:1.3) [fox], <lora:fur:0.8> in [snow:rain:0.5] BREAK [at night|by day], \(film\)")
    'a red fox, in snow rain at night by day, (film)'
    """
    text = " ".join(well_formed(text).split())
    text = _without_breaks(_without_tags(text))
    words = " ".join(_without_brackets(part) for part in _wanted_parts(text))
    return " ".join(words.split()).replace(" ,", ",")


def _without_tags(text: str) -> str:
    """Take network tags out, with the comma that only set them apart."""
    literals = _around_tags(text)
    first = 0
    while first < len(literals) - 1 and not literals[first].strip(_SEPARATORS):
        first += 1
    if first:  # tags at the start take the separators behind them along
        literals = [literals[first].lstrip(_SEPARATORS), *literals[first + 1 :]]
    # A tag goes with the separators before it if a comma or the end follows, or another tag that goes.
    goes = [False] * len(literals)
    for index in reversed(range(1, len(literals))):
        following = literals[index]
        is_last = index == len(literals) - 1
        goes[index] = _ends_phrase(following, is_last) or (
            not is_last and not following.strip() and goes[index + 1]
        )
    kept = [
        literal.rstrip(_SEPARATORS) if with_separators else literal + " "
        for literal, with_separators in zip(literals[:-1], goes[1:], strict=True)
    ]
    return "".join(kept) + literals[-1]


def _around_tags(text: str) -> list[str]:
    """Return the texts before, between and behind the tags, such as `<lora:fur:0.8>`."""
    before, *rest = text.split("<")
    literals, literal = [], [before]
    for piece in rest:
        tag, closing, behind = piece.partition(">")
        name, colon, arguments = tag.partition(":")
        if closing and colon and arguments and name.replace("_", "x").isalnum():
            literals.append("".join(literal))
            literal = [behind]
        else:
            literal += ["<", piece]
    return [*literals, "".join(literal)]


def _without_breaks(text: str) -> str:
    """Put a blank in the place of each BREAK, and of the comma that only set it apart."""
    parts = _split_at_word(text, "BREAK")
    kept = [
        part.rstrip(_SEPARATORS) if _ends_phrase(following, index == len(parts) - 1) else part
        for index, (part, following) in enumerate(pairwise(parts), start=1)
    ]
    return " ".join([*kept, parts[-1]])


def _ends_phrase(following: str, is_last: bool) -> bool:
    """Tell whether a comma, or the end of the prompt, comes next."""
    rest = following.lstrip(" ")
    return rest.startswith(",") or (is_last and not rest)


def _wanted_parts(text: str) -> list[str]:
    """Split at AND; a part of negative or no weight says what the image should not show, and is left out."""
    parts = _split_at_word(text, "AND")
    if len(parts) == 1:
        return parts
    wanted = []
    for part in parts:
        words, colon, weight = part.rpartition(":")
        if not colon or not _is_number(weight):
            wanted.append(part)
        elif float(weight) > 0:
            wanted.append(words)
    return wanted


def _split_at_word(text: str, word: str) -> list[str]:
    """Split where the word stands alone, not inside another one."""
    parts, start = [], 0
    position = text.find(word)
    while position >= 0:
        end = position + len(word)
        if not _is_letter(text[position - 1 : position]) and not _is_letter(text[end : end + 1]):
            parts.append(text[start:position])
            start = end
        position = text.find(word, end)
    return [*parts, text[start:]]


@dataclass
class _Group:
    """An open bracket, whose text is cut into pieces at each colon or bar of its own level."""

    bracket: str
    start: int
    """Where its text begins among the tokens kept so far."""
    separators: list[int] = field(default_factory=list)
    """Where its own colons and bars stand among them."""
    has_words: list[bool] = field(default_factory=lambda: [False])
    """For each piece, whether it is more than blanks."""


class _Brackets:
    """Resolves brackets from the inside out; one without its partner is treated as the WebUI does."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        """The text kept so far. A group that is still open holds its end, so what it drops is cut off there."""
        self._groups = [_Group("", 0)]
        self._open = {"(": 0, "[": 0}

    def add(self, text: str) -> None:
        """Add text of the innermost group."""
        self.tokens.append(text)
        if not text.isspace():
            self._groups[-1].has_words[-1] = True

    def cut(self, separator: str) -> None:
        """Begin the next piece of the innermost group."""
        group = self._groups[-1]
        group.separators.append(len(self.tokens))
        group.has_words.append(False)
        self.tokens.append(separator)

    def open(self, bracket: str) -> None:
        """Begin a group."""
        self._groups.append(_Group(bracket, len(self.tokens)))
        self._open[bracket] += 1

    def close(self, sign: str) -> None:
        """End the innermost group of this kind; those inside it were never closed, and their text stays."""
        bracket = _PARTNERS[sign]
        if not self._open[bracket]:
            self.add(sign)  # nothing to close: a smiley
            return
        while self._groups[-1].bracket != bracket:
            self._merge(self._groups.pop())
        group = self._groups.pop()
        self._resolve(group)
        self._merge(group)

    def _merge(self, group: _Group) -> None:
        self._open[group.bracket] -= 1
        if group.separators or any(group.has_words):
            self._groups[-1].has_words[-1] = True

    def _resolve(self, group: _Group) -> None:
        """Leave of a closed group what the image should show."""
        if group.bracket == "[" and any(self.tokens[separator] == "|" for separator in group.separators):
            self._join(group)  # alternation
        elif group.separators and self._ends_in_number(group):
            if group.bracket == "(":  # attention: the words, and behind the last colon the weight
                self._drop_last_piece(group)
            elif len(group.separators) <= 2:  # schedule: before and after, and when
                self._drop_last_piece(group)
                self._join(group)

    def _ends_in_number(self, group: _Group) -> bool:
        piece = group.separators[-1] + 1
        return len(self.tokens) - piece <= _LONGEST_NUMBER and _is_number("".join(self.tokens[piece:]))

    def _drop_last_piece(self, group: _Group) -> None:
        del self.tokens[group.separators.pop() :]
        group.has_words.pop()

    def _join(self, group: _Group) -> None:
        """Put blanks between the pieces that have words, and drop the others."""
        if not any(group.has_words):
            del self.tokens[group.start :]
            group.separators = []
            return
        words_before = False
        piece = group.start
        for has_words, end in zip(group.has_words, [*group.separators, len(self.tokens)], strict=True):
            if piece > group.start:
                self.tokens[piece - 1] = " " if has_words and words_before else ""
            if not has_words:
                self.tokens[piece:end] = [""] * (end - piece)
            words_before = words_before or has_words
            piece = end + 1
        group.separators = []


def _without_brackets(text: str) -> str:
    brackets = _Brackets()
    for token in _tokens(text):
        if token[0] == "\\":
            if len(token) > 1:
                brackets.add(token[1:])
        elif token in _PARTNERS:
            brackets.close(token)
        elif token in _PARTNERS.values():
            brackets.open(token)
        elif token in _SIGNS:
            brackets.cut(token)
        else:
            brackets.add(token)
    return "".join(brackets.tokens)


def _tokens(text: str) -> Iterator[str]:
    """Cut a text into signs, escaped letters (with their backslash), and what stands between."""
    start = position = 0
    while position < len(text):
        letter = text[position]
        if letter != "\\" and letter not in _SIGNS:
            position += 1
            continue
        if start < position:
            yield text[start:position]
        end = position + (2 if letter == "\\" else 1)
        yield text[position:end]
        start = position = end
    if start < len(text):
        yield text[start:]


def _is_number(text: str) -> bool:
    """Tell whether a text is a weight, such as 1.2, -1, .5 or 7."""
    text = text.strip()
    unsigned = text[1:] if text[:1] in ("+", "-") else text
    return unsigned.replace(".", "", 1).isdecimal()


def _is_letter(text: str) -> bool:
    return text.isalnum() or text == "_"
