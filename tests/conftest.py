"""Which tests run: those that need more than two cores and Python say what they need and are skipped without it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.hosting import client_of_host, demo_host, random_checkpoint  # noqa: F401  # fixtures for everyone

WEBUIS = {
    "demo_host": ("demo_host/test_contract", "demo_host/test_host", "demo_host/test_page"),
    "started_webui": (
        "webui/test_browser",
        "webui/test_scenarios",
        "webui/test_with_adetailer",
        "webui/test_with_other_scripts",
    ),
    "training_webui": ("webui/test_refl_tab_browser", "webui/test_trained_lora"),
}
"""The fixtures that start a WebUI, and the files whose tests share it."""
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")

# A busy machine is slow; that is no failure of what is tested.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests that take minutes or gigabytes")
    parser.addoption("--host", action="store_true", help="run the scenarios against the WebUI at $WEBUI_URL")


@pytest.hookimpl(optionalhook=True)  # only where pytest-xdist is
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let one worker do a file's tests in a row, and those of all files that share a WebUI, for what they share."""
    from xdist.scheduler import LoadScopeScheduling

    class ByWebUI(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            return _together(nodeid)

    return ByWebUI(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=_rank)  # what takes longest alone must not be what is left at the end
    asked_for = config.getoption("-m")
    missing = _missing(config)
    for item in items:
        for marker, reason in missing.items():
            if item.get_closest_marker(marker) and marker not in asked_for:
                item.add_marker(pytest.mark.skip(reason=reason))


def _together(nodeid: str) -> str:
    file = nodeid.split("::")[0].removeprefix("tests/").removesuffix(".py")
    return next((webui for webui, files in WEBUIS.items() if file in files), file)


def _rank(item: pytest.Item) -> int:
    """WebUIs first, then what starts processes and trains, then the rest."""
    if _together(item.nodeid) in WEBUIS or "chromium" in item.fixturenames:
        return 0
    return (
        1 if item.path.parent.name in ("demo_host", "jobs", "reward_training", "refl", "cli", "hosts") else 2
    )


def _missing(config: pytest.Config) -> dict[str, str]:
    """Say for each marker why its tests cannot run here."""
    missing = {}
    if not config.getoption("--slow"):
        missing["slow"] = "takes minutes or gigabytes: run with --slow"
    if not config.getoption("--host"):
        missing["host"] = "needs a real WebUI: WEBUI_URL=http://127.0.0.1:7860 python3 run.py test --host"
    if not all(map(shutil.which, ("exiftool", "webpinfo"))):
        missing["outside"] = "needs exiftool and webpinfo: apt install libimage-exiftool-perl webp"
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


@pytest.fixture(scope="session", autouse=True)
def _another_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep tests, and what they start, from reading or filling the developer's own cache and weight folders."""
    home = str(tmp_path_factory.mktemp("home"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", home)
        patch.setenv("USERPROFILE", home)
        patch.delenv("XDG_CACHE_HOME", raising=False)
        yield


@pytest.fixture(autouse=True)
def _no_weights_of_this_machine(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Keep a test from finding the developer's weights, unless it asks for them."""
    if not request.node.get_closest_marker("weights"):
        monkeypatch.delenv("IMAGEREWARD_HOME", raising=False)


@pytest.fixture
def no_digest_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin without the digests that this process or this user knows."""
    from imagereward_ext.weights import digests

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "_known", {})


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
