"""Words that more than one room puts into its sentences."""

from __future__ import annotations


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
