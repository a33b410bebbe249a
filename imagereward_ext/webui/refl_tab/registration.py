"""The one call that hangs the tab and its routes into the host."""

from __future__ import annotations

from typing import Any

from modules import script_callbacks

from imagereward_ext.webui.service import service


def register() -> None:
    """Register the tab and its routes; both only look at what is there."""
    script_callbacks.on_ui_tabs(_tab)
    script_callbacks.on_app_started(_routes)


def _tab() -> list[tuple[Any, str, str]]:
    from imagereward_ext.webui.refl_tab import tab
    from imagereward_ext.webui.refl_tab.training import training_service

    return [(tab.build(service(), training_service()), "ReFL", "imagereward_refl")]


def _routes(demo: Any, app: Any) -> None:
    from imagereward_ext.webui.refl_tab import routes
    from imagereward_ext.webui.refl_tab.training import training_service

    routes.add(app, service(), training_service())
