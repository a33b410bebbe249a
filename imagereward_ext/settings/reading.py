"""Reading settings: strictly where a program waits for them, leniently where an image would be lost."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from imagereward_ext.errors import UsageError
from imagereward_ext.settings.errors import FieldError
from imagereward_ext.settings.schema import Setting, schema

T = TypeVar("T")


def read_strictly(kind: type[T], given: Mapping[str, Any], missing: str = "there is no setting") -> T:
    """Make a dataclass of settings; what is not given keeps its default, what is not known is an error."""
    for name in given:
        refuse_unknown(name, schema(kind), missing)
    return kind(**given)


def refuse_unknown(name: str, known: Iterable[str], missing: str = "there is no setting") -> None:
    """Refuse a name that nothing has, and name the nearest known one. `missing` begins the sentence."""
    known = list(known)
    if name in known:
        return
    near = difflib.get_close_matches(str(name), known, 1)
    cure = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
    raise FieldError(str(name), f"{missing} {name!r}: {cure}")


def read_file(path: Path) -> dict[str, Any]:
    """Read a JSON file of settings, not all of which need to be there."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read as settings: {error}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} holds no settings: expected a JSON object")
    return values


@dataclass(frozen=True)
class Reading(Generic[T]):
    """Values that make sense, and a sentence for each that did not."""

    values: T
    problem_of: Mapping[str, str] = field(default_factory=dict)
    """By the name that was given, be it known or not."""

    @property
    def problems(self) -> tuple[str, ...]:
        """Every sentence."""
        return tuple(self.problem_of.values())


def read(kind: type[T], given: Mapping[str, Any], missing: str = "there is no setting") -> Reading[T]:
    """Make a dataclass of settings, never raising: a value without sense is replaced by its default and told of."""
    known = schema(kind)
    texts = {
        name: str(value).strip()
        for name, value in given.items()
        if name in known and known[name].is_free_text and value is not None
    }
    values, errors = parse(known, {**given, **texts}, missing)
    problem_of = {name: error.spelled(lambda name: known[name].label) for name, error in errors.items()}
    return Reading(kind(**values), problem_of)


def parse(
    known: Mapping[str, Setting], given: Mapping[str, Any], missing: str = "there is no setting"
) -> tuple[dict[str, Any], dict[str, FieldError]]:
    """Read each value for itself: those that make sense, and what is wrong with the others."""
    values: dict[str, Any] = {}
    errors: dict[str, FieldError] = {}
    for name, value in given.items():
        try:
            refuse_unknown(name, known, missing)
            values[name] = known[name].parse(value)
        except FieldError as error:
            errors[name] = error
    return values, errors
