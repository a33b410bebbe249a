"""Declaring settings, and what is known of each."""

from __future__ import annotations

import math
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from types import MappingProxyType
from typing import Any

from imagereward_ext.settings.errors import FieldError

_ABOUT = "setting"
_WHOLE_NUMBER = re.compile(r"[+-]?\d+(\.0?)?")
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def setting(default: Any, label: str, help: str, **more: Any) -> Any:
    """Declare a field; `more` are the rest of :class:`Setting`'s attributes."""
    return field(default=default, metadata={_ABOUT: {"label": label, "help": help, **more}})


def with_default(kind: type, name: str, default: Any) -> Any:
    """Declare a field of a subclass anew, with another default and all else as it was."""
    return field(
        default=default, metadata=next(entry.metadata for entry in fields(kind) if entry.name == name)
    )


@dataclass(frozen=True)
class Setting:
    """What is known of one setting. Name, kind and default are the field's own; the rest is declared."""

    name: str
    kind: type
    """bool, int, float or str."""
    default: Any
    label: str
    help: str
    group: str = ""
    low: float | None = None
    high: float | None = None
    above: float | None = None
    """The low end where it does not belong to the range itself; `below` likewise."""
    below: float | None = None
    choices: tuple[str, ...] = ()
    several: bool = False
    """Text that lists names with commas: a flag may be given several times, a page lets several be chosen."""
    length: int = 1
    """How many numbers it takes, 2 for a pair."""
    optional: bool = False
    """Whether None is a value."""
    aliases: tuple[str, ...] = ()
    """Further flags of the command line."""

    @property
    def is_free_text(self) -> bool:
        """Whether any text will do."""
        return self.kind is str and not self.choices

    def check(self, value: Any) -> None:
        """Refuse a value of another type or outside the range."""
        if value is None and self.optional:
            return
        if self.length > 1:
            if not isinstance(value, (tuple, list)) or len(value) != self.length:
                raise self.error(f"is {value!r}; expected {self.length} numbers")
            for part in value:
                self._check_single(part)
        else:
            self._check_single(value)

    def parse(self, value: Any) -> Any:
        """Return the value that a widget, a query or somebody's JSON means, checked.

        They hand out 8 for 8.0 and 8.0 for 8, a list for names with commas, None for an empty text.
        """
        parsed = self._parsed(value)
        self.check(parsed)
        return parsed

    def error(self, problem: str) -> FieldError:
        """Say what is wrong: the setting, and a text such as "is 0; it must be at least 1"."""
        return FieldError(self.name, lambda spell: f"{spell(self.name)} {problem}")

    def range_text(self) -> str:
        """Say the range: "between 1 and 12", "at least 0 and below 1"; "" where there is none."""
        if self.low is not None and self.high is not None:
            return f"between {self.low:.10g} and {self.high:.10g}"
        ends = {"at least": self.low, "above": self.above, "at most": self.high, "below": self.below}
        return " and ".join(f"{words} {end:.10g}" for words, end in ends.items() if end is not None)

    def _check_single(self, value: Any) -> None:
        if self.kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        of_kind = isinstance(value, self.kind) and (self.kind is bool or not isinstance(value, bool))
        if not of_kind:
            raise self.error(f"is {value!r}; expected {_KINDS[self.kind]}")
        if self.choices and value not in self.choices:
            raise self.error(f"is {value!r}; choose one of {', '.join(self.choices)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise self.error(f"is {value}; expected a finite number")
        if self._is_outside(value):
            raise self.error(f"is {value}; it must be {self.range_text()}")

    def _is_outside(self, value: Any) -> bool:
        return (
            (self.low is not None and value < self.low)
            or (self.high is not None and value > self.high)
            or (self.above is not None and value <= self.above)
            or (self.below is not None and value >= self.below)
        )

    def _parsed(self, value: Any) -> Any:
        if self.choices:
            return self._choice(value)
        if self.kind is bool:
            return self._switch(value)
        if self.kind is str:
            if self.several and isinstance(value, (list, tuple)):
                return ",".join(map(str, value))
            return "" if value is None else value
        if self.length > 1 and isinstance(value, (list, tuple)):
            return tuple(map(self._number, value))
        if value is None and self.optional:
            return None
        return self._number(value)

    def _choice(self, value: Any) -> str:
        text = ("on" if value else "off") if isinstance(value, bool) else str(value).strip().lower()
        for choice in self.choices:
            if choice.lower() == text:
                return choice
        raise self.error(f"is {value!r}; choose one of {', '.join(self.choices)}")

    def _switch(self, value: Any) -> bool:
        text = str(value).strip().lower()
        if value in (True, False):  # 0 and 1 count
            return bool(value)
        if text not in ("true", "false"):
            raise self.error(f"is {value!r}; it must be true or false")
        return text == "true"

    def _number(self, value: Any) -> float:
        expected = "a whole number" if self.kind is int else "a number such as 0.5"
        text = "" if value is None or isinstance(value, bool) else str(value).strip()
        if not text:
            raise self.error(f"is empty; type {expected}")
        if self.kind is int and isinstance(value, str) and not _WHOLE_NUMBER.fullmatch(text):
            raise self.error(f"is {value!r}; type {expected}")  # 1,000 and 1.000: one or a thousand?
        try:
            number = float(text.replace(",", "."))  # 0,5 is how half of Europe types it
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise self.error(f"is {value!r}; type {expected}")
        if self.kind is float:
            return number
        if not number.is_integer():
            raise self.error(f"is {value}; it must be a whole number")
        return int(number)


_SCHEMAS: dict[type, Mapping[str, Setting]] = {}


def schema(kind: type) -> Mapping[str, Setting]:
    """Return what is known of every setting of a dataclass, by name and in order; its other fields are left out."""
    if kind not in _SCHEMAS:
        hints = typing.get_type_hints(kind)
        known = {
            entry.name: _about(entry, hints[entry.name]) for entry in fields(kind) if _ABOUT in entry.metadata
        }
        _SCHEMAS[kind] = MappingProxyType(known)
    return _SCHEMAS[kind]


def check(values: Any) -> None:
    """Refuse a dataclass of settings with a value that cannot be: its own `__post_init__` says this first."""
    for entry in schema(type(values)).values():
        entry.check(getattr(values, entry.name))


def _about(entry: Field[Any], hint: Any) -> Setting:
    """Read the kind off the annotation: one of the four, `int | None`, or a tuple of numbers."""
    parts = typing.get_args(hint)
    declared: dict[str, Any] = entry.metadata[_ABOUT]
    if not parts:
        return Setting(entry.name, hint, entry.default, **declared)
    if types.NoneType in parts:
        return Setting(entry.name, parts[0], entry.default, optional=True, **declared)
    return Setting(entry.name, parts[0], entry.default, length=len(parts), **declared)
