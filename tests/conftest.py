"""Which tests run: those that need more than two cores and Python say what they need and are skipped without it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.hosting import demo_host, host_url, random_checkpoint  # noqa: F401  # fixtures for everyone

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")

# A busy machine is slow; that is no failure of what is tested.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests that take minutes or gigabytes")
    parser.addoption("--host", action="store_true", help="run the scenarios against the WebUI at $WEBUI_URL")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    asked_for = config.getoption("-m")
    for item in items:
        for marker, reason in _missing(config).items():
            if item.get_closest_marker(marker) and marker not in asked_for:
                item.add_marker(pytest.mark.skip(reason=reason))


def _missing(config: pytest.Config) -> dict[str, str]:
    """Say for each marker why its tests cannot run here."""
    missing = {}
    if not config.getoption("--slow"):
        missing["slow"] = "takes minutes or gigabytes: run with --slow"
    if not config.getoption("--host"):
        missing["host"] = "needs a real WebUI: WEBUI_URL=http://127.0.0.1:7860 python3 run.py test --host"
    if CHROMIUM is None:
        missing["browser"] = "needs Chromium: apt install chromium, or CHROMIUM=<path>"
    if not _cuda():
        missing["gpu"] = "needs a CUDA device"
    if not (Path(os.environ.get("IMAGEREWARD_HOME", "/nonexistent")) / "ImageReward.pt").exists():
        missing["weights"] = "needs the real weights: IMAGEREWARD_HOME=<folder with ImageReward.pt>"
    return missing


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(autouse=True)
def _no_weights_of_this_machine(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Keep a test from finding (or filling) the developer's own weight folders."""
    if request.node.get_closest_marker("weights"):
        return
    home = request.getfixturevalue("tmp_path_factory").getbasetemp() / "home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.delenv("IMAGEREWARD_HOME", raising=False)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random-weight ImageReward as a model folder."""
    from tests.tiny import make_tiny_scorer_folder

    return make_tiny_scorer_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Headless Chromium. One at a time: its loop must be gone before another module starts its own."""
    api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
