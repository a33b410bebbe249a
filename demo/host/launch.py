"""Starts the host, and the name under which an extension's install.py finds `is_installed` and `run_pip`."""

from __future__ import annotations

from modules.launch_utils import args, git_tag, is_installed, python, run, run_extension_installers, run_pip

__all__ = ["args", "git_tag", "is_installed", "main", "python", "run", "run_extension_installers", "run_pip"]


def main() -> None:
    from modules.timer import startup_timer

    if not args.skip_install:
        run_extension_installers()
    startup_timer.record("install extensions")
    import webui

    webui.run()


if __name__ == "__main__":
    main()
