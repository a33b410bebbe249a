"""What people from elsewhere may see: names, never the folders of the machine the WebUI runs on."""

from __future__ import annotations

import re
from pathlib import Path

from imagereward_ext.webui.service import Service

_THIS_MACHINE = ("", "127.0.0.1", "localhost", "::1")
_FOLDERS = r"(?:[^\s\\/:'\"]+[\\/])"
_ABSOLUTE = re.compile(rf"(?:[A-Za-z]:)?[\\/]{_FOLDERS}+")
_REST = rf"(?:[\\/]{_FOLDERS}*|(?!\w))"


class Privacy:
    """As far as the owner of the WebUI has said who may reach it."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._host = service.host

    def names_only(self) -> bool:
        """Whether people from elsewhere may reach this WebUI: then paths are neither taken nor shown."""
        opened = any(self._host.flag(flag) for flag in ("listen", "share", "ngrok"))
        return opened or str(self._host.flag("server_name") or "") not in _THIS_MACHINE

    def may_open_folders(self) -> bool:
        """Whether the person at the page sits at this machine."""
        return not (self.names_only() or self._host.flag("hide_ui_dir_config"))

    def shown(self, text: str) -> str:
        """Take folders out of a text that people from elsewhere may read."""
        if not self.names_only():
            return text
        # Those of this WebUI by name: where one has a space in it, nothing else tells where it begins or ends.
        for place in sorted(self._places(), key=lambda path: -len(str(path))):
            if place != Path(place.anchor):
                text = re.sub(re.escape(str(place)) + _REST, "", text)
        return _ABSOLUTE.sub("", text)

    def _places(self) -> set[Path]:
        host = self._host
        folders = (host.data_folder(), host.models_folder(), host.lora_folder(), self._service.folder())
        return {folder.absolute() for folder in (*folders, Path.home())}
