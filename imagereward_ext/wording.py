"""Words that more than one room puts into its sentences."""

from __future__ import annotations

import re
from collections.abc import Callable

Say = Callable[[str], None]
"""Takes one line for a person: what happens meanwhile, such as a download."""

_CONTROLS = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f"  # all but the tab: line ends, ESC, C1
    "\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"  # lines, and what turns the order of letters
)


def counted(number: int, noun: str) -> str:
    """Write a number of things: 1 image, 1,200 images."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def well_formed(text: str) -> str:
    """Replace halves of characters, from a JSON escape or a terminal: they can be neither encoded nor scored."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "".join(
            "\N{REPLACEMENT CHARACTER}" if "\ud800" <= letter <= "\udfff" else letter for letter in text
        )
    return text


def visible(text: str) -> str:
    r"""Write characters that would move the cursor, end the line or reorder letters as what they are: \u001b."""
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
