"""What is wrong with a setting, and with which."""

from __future__ import annotations

from collections.abc import Callable

from imagereward_ext.errors import UsageError

Spell = Callable[[str], str]
"""How a reader knows a setting: a page by its label, a file by its name."""


class FieldError(UsageError):
    """What is wrong with one setting: which one, its value and the cure.

    A sentence that speaks of settings is a function of how their names are spelled, so that it can be said again with
    the words of whoever reads it.
    """

    def __init__(self, field: str, sentence: str | Callable[[Spell], str]) -> None:
        self.field = field
        self._sentence = sentence
        super().__init__(self.spelled(str))

    def spelled(self, spell: Spell) -> str:
        """Say it with the reader's words for the settings."""
        return self._sentence if isinstance(self._sentence, str) else self._sentence(spell)
