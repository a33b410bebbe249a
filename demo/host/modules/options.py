"""Settings: what one is (OptionInfo), the set of all (Options), kept in config.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modules import errors


class OptionInfo:
    def __init__(
        self,
        default: Any = None,
        label: str = "",
        component: Any = None,
        component_args: dict[str, Any] | Callable[[], dict[str, Any]] | None = None,
        onchange: Callable[[], Any] | None = None,
        section: tuple[str, str] = ("other", "Other"),
    ):
        self.default, self.label, self.component, self.component_args = (
            default,
            label,
            component,
            component_args,
        )
        self.onchange, self.section, self.comment = onchange, section, ""

    def info(self, text: str) -> OptionInfo:
        self.comment += f"({text})"
        return self

    def arguments(self) -> dict[str, Any]:
        """What the component is made with; a list of models is asked for anew each time."""
        return (self.component_args() if callable(self.component_args) else self.component_args) or {}


def options_section(section: tuple[str, str], options: dict[str, OptionInfo]) -> dict[str, OptionInfo]:
    for info in options.values():
        info.section = section
    return options


class Options:
    """Attribute access to the settings: `opts.samples_format`."""

    def __init__(self, data_labels: dict[str, OptionInfo]):
        self.data_labels = data_labels
        self.data: dict[str, Any] = {key: info.default for key, info in data_labels.items()}

    def __getattr__(self, key: str) -> Any:
        try:
            return self.__dict__["data"][key]
        except KeyError:
            raise AttributeError(key) from None

    def set(self, key: str, value: Any, run_callbacks: bool = True) -> bool:
        """Change a setting and tell its `onchange`, whose failure takes the change back. True: it changed."""
        info, old = self.data_labels[key], self.data.get(key)
        if old == value:
            return False
        self.data[key] = value
        if run_callbacks and info.onchange is not None:
            try:
                info.onchange()
            except Exception:
                errors.report(f"changing setting {key} to {value}", exc_info=True)
                self.data[key] = old
                return False
        return True

    def save(self, filename: str) -> None:
        Path(filename).write_text(json.dumps(self.data, indent=4, ensure_ascii=False), encoding="utf8")

    def load(self, filename: str) -> None:
        """Values from the file; keys of extensions that are not loaded yet are kept."""
        if Path(filename).is_file():
            self.data.update(json.loads(Path(filename).read_text(encoding="utf8")))

    def add_option(self, key: str, info: OptionInfo) -> None:
        self.data_labels[key] = info
        self.data.setdefault(key, info.default)

    def dumpjson(self) -> str:
        return json.dumps(self.data)
