"""Words that more than one room puts into its sentences."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Write a number of things: 1 image, 1,200 images."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
