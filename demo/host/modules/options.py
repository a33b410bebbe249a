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
        onchange: Callable[[], None] | None = None,
        section: tuple[str, str] | None = None,
        refresh: Callable[[], None] | None = None,
        comment_before: str = "",
        comment_after: str = "",
        infotext: str | None = None,
        restrict_api: bool = False,
        category_id: str | None = None,
    ):
        self.default, self.label, self.component, self.component_args = (
            default,
            label,
            component,
            component_args,
        )
        self.onchange, self.section, self.refresh, self.category_id = onchange, section, refresh, category_id
        self.comment_before, self.comment_after = comment_before, comment_after
        self.infotext, self.restrict_api = infotext, restrict_api
        self.do_not_save = False

    def link(self, label: str, url: str) -> OptionInfo:
        self.comment_before += f"[<a href='{url}' target='_blank'>{label}</a>]"
        return self

    def js(self, label: str, js_func: str) -> OptionInfo:
        self.comment_before += f"[<a onclick='{js_func}(); return false'>{label}</a>]"
        return self

    def info(self, info: str) -> OptionInfo:
        return self.html(f"<span class='info'>({info})</span>")

    def html(self, html: str) -> OptionInfo:
        self.comment_after += html
        return self

    def needs_restart(self) -> OptionInfo:
        return self.html(" <span class='info'>(requires restart)</span>")

    def needs_reload_ui(self) -> OptionInfo:
        return self.html(" <span class='info'>(requires Reload UI)</span>")


class OptionHTML(OptionInfo):
    """A paragraph among the settings."""

    def __init__(self, text: str):
        super().__init__(str(text).strip(), label="")
        self.do_not_save = True


def options_section(section: tuple[str, ...], options: dict[str, OptionInfo]) -> dict[str, OptionInfo]:
    for info in options.values():
        info.section = (section[0], section[1])
    return options


class Options:
    """Attribute access to the settings: `opts.samples_format`."""

    def __init__(self, data_labels: dict[str, OptionInfo]):
        self.__dict__["data_labels"] = data_labels
        self.__dict__["data"] = {
            key: info.default for key, info in data_labels.items() if not info.do_not_save
        }

    def __getattr__(self, key: str) -> Any:
        if key in self.__dict__["data"]:
            return self.data[key]
        if key in self.__dict__["data_labels"]:
            return self.data_labels[key].default
        raise AttributeError(key)

    def __setattr__(self, key: str, value: Any) -> None:
        if key in self.data or key in self.data_labels:
            self.data[key] = value
        else:
            self.__dict__[key] = value

    def set(self, key: str, value: Any, is_api: bool = False, run_callbacks: bool = True) -> bool:
        """Change a setting and tell its `onchange`; a failing `onchange` takes the change back. True: it changed."""
        info = self.data_labels[key]
        old = self.data.get(key)
        if old == value or info.do_not_save or (is_api and info.restrict_api):
            return False
        self.data[key] = value
        if run_callbacks and info.onchange is not None:
            try:
                info.onchange()
            except Exception as e:
                errors.display(e, f"changing setting {key} to {value}", full_traceback=True)
                self.data[key] = old
                return False
        return True

    def get_default(self, key: str) -> Any:
        info = self.data_labels.get(key)
        return None if info is None else info.default

    def save(self, filename: str) -> None:
        Path(filename).parent.mkdir(parents=True, exist_ok=True)
        Path(filename).write_text(json.dumps(self.data, indent=4, ensure_ascii=False), encoding="utf8")

    def load(self, filename: str) -> None:
        """Values from the file; keys of extensions that are not loaded yet are kept."""
        if Path(filename).is_file():
            self.data.update(json.loads(Path(filename).read_text(encoding="utf8")))

    def onchange(self, key: str, func: Callable[[], None], call: bool = True) -> None:
        self.data_labels[key].onchange = func
        if call:
            func()

    def add_option(self, key: str, info: OptionInfo) -> None:
        self.data_labels[key] = info
        if not info.do_not_save:
            self.data.setdefault(key, info.default)

    def dumpjson(self) -> str:
        return json.dumps({key: self.data.get(key, info.default) for key, info in self.data_labels.items()})

    def cast_value(self, key: str, value: Any) -> Any:
        """`value` (often a text) as the type of this setting's default."""
        default = self.data_labels[key].default
        if value is None or default is None:
            return None
        if isinstance(default, bool):
            return value not in (False, "False", "false", "0", 0)
        return type(default)(value)
