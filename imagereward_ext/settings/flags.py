"""Settings as flags of a command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import Any

from imagereward_ext.settings.errors import FieldError
from imagereward_ext.settings.schema import Setting

_METAVARS = {int: "N", float: "X", str: "TEXT"}


def flag(name: str) -> str:
    """Spell a setting's name as the command line does."""
    return "--" + name.replace("_", "-")


def add_flags(
    parser: argparse._ActionsContainer,
    settings: Iterable[Setting],
    default_text: Callable[[Setting], str] = lambda setting: spelled(setting.default),
    *,
    fill_in: bool = True,
) -> None:
    """Declare a flag for each setting, by group. Where nothing is filled in, one that is not given is None."""
    groups: dict[str, argparse._ActionsContainer] = {"": parser}
    for setting in settings:
        if setting.group not in groups:
            groups[setting.group] = parser.add_argument_group(setting.group)
        help_text = f"{setting.help} (default: {default_text(setting)})".replace("%", "%%")
        groups[setting.group].add_argument(
            flag(setting.name),
            *setting.aliases,
            dest=setting.name,
            default=None,
            help=help_text,
            **_how(setting),
        )
        if fill_in:  # afterwards: argparse would tell a switch's default once more
            parser.set_defaults(**{setting.name: setting.default})


def given_flags(arguments: argparse.Namespace, settings: Iterable[Setting]) -> dict[str, Any]:
    """Return the settings that stand on the command line; the others keep their defaults."""
    values = {setting.name: getattr(arguments, setting.name) for setting in settings}
    return {
        setting.name: setting.parse(values[setting.name])
        for setting in settings
        if values[setting.name] is not None
    }


def spelled(default: Any) -> str:
    """Spell a default."""
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, tuple):
        return " ".join(map(spelled, default))
    if default in ("", None):
        return "none"
    return f"{default:g}" if isinstance(default, float) else str(default)


def _how(setting: Setting) -> dict[str, Any]:
    """Return what argparse has to know of a flag beside its name."""
    if setting.kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    if setting.several:
        return {"action": "append", "metavar": "TEXT"}
    if setting.choices:
        return {"type": _reader(setting), "metavar": f"{{{','.join(setting.choices)}}}"}
    if setting.length > 1:
        return {"type": float, "nargs": setting.length, "metavar": _METAVARS[setting.kind]}
    return {"type": _reader(setting), "metavar": _METAVARS[setting.kind]}


def _reader(setting: Setting) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return setting.parse(text)
        except FieldError as error:
            raise argparse.ArgumentTypeError(error.spelled(lambda name: "it")) from error

    return read
