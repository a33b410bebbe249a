"""A WebUI with this extension and a small scorer in it: the demo host, or the one at $WEBUI_URL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from imagereward_ext.webui.service import Service
from tests.hosting import ROOT, Client, RunningHost, running_host
from tests.tiny import make_tiny_scorer_folder
from tests.webui.services import make_service

SCORER = os.environ.get("WEBUI_SCORER", "tiny")
"""With $WEBUI_URL: a scorer that host has, in models/ImageReward/<name> or by its catalogue name."""
SCORERS = os.environ.get("WEBUI_SCORERS")
"""With $WEBUI_URL: that host's models/ImageReward, if tests may write their small scorers there and break them."""
COMPANIONS = ROOT / "tests" / "webui" / "companions"
STYLES = "name,prompt,negative_prompt\nround,a circle of {prompt},square\n"


@dataclass
class WebUI(Client):
    """The host's API, its output folders, and a way to change settings for one test."""

    url: str
    outputs: Path
    scorers: Path | None = None
    """Where the host looks for scorers, when it is ours to change."""
    process: RunningHost | None = None
    auth: tuple[str, str] | None = None
    changed: dict[str, Any] = field(default_factory=dict)

    def settings(self, **values: Any) -> None:
        """Change settings; they are set back after the test."""
        before = self.get("/sdapi/v1/options")
        for name in values:
            self.changed.setdefault(name, before.get(name))
        self.post("/sdapi/v1/options", **values)

    def restore(self) -> None:
        if self.changed:
            self.post("/sdapi/v1/options", **self.changed)
        self.changed.clear()

    def files(self, kind: str = "txt2img") -> list[Path]:
        """What has been saved, without grids."""
        folder = self.outputs / kind
        return sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []

    def has(self, title: str) -> bool:
        return any(script["name"] == title.lower() for script in self.get("/sdapi/v1/script-info"))


@pytest.fixture
def service(tmp_path: Path) -> Service:
    """A service over a fake host with a real small scorer; no WebUI is started."""
    return make_service(tmp_path)


@pytest.fixture(scope="session")
def started_webui(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebUI]:
    if "WEBUI_URL" in os.environ:
        scorers = write_scorers(Path(SCORERS)) if SCORERS else None
        yield WebUI(os.environ["WEBUI_URL"].rstrip("/"), tmp_path_factory.mktemp("outputs"), scorers)
        return
    pytest.importorskip("gradio", minversion="4.0", reason="the demo host speaks gradio 4")
    pytest.importorskip("diffusers", reason="the demo host draws with diffusers")
    data = tmp_path_factory.mktemp("webui")
    scorers = write_scorers(data / "models" / "ImageReward")
    (data / "styles.csv").write_text(STYLES, encoding="utf-8")
    checkpoints = request.getfixturevalue("random_checkpoint")
    with running_host(data, checkpoints, [ROOT, COMPANIONS]) as host:
        yield WebUI(host.url, tmp_path_factory.mktemp("outputs"), scorers, host)


@pytest.fixture(scope="session")
def training_webui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    """A WebUI in which a training takes seconds."""
    from tests.webui.training_world import training_host

    with training_host(tmp_path_factory) as host:
        yield host


def write_scorers(folder: Path) -> Path:
    """Write the two small scorers of these scenarios."""
    make_tiny_scorer_folder(folder / "tiny", label="ImageReward")
    make_tiny_scorer_folder(folder / "other", name="other", label="Other")
    return folder


@pytest.fixture
def webui(started_webui: WebUI, tmp_path: Path) -> Iterator[WebUI]:
    """A WebUI with default settings, a small scorer and empty output folders."""
    webui = started_webui
    webui.outputs = tmp_path
    folders = {
        "outdir_txt2img_samples": str(tmp_path / "txt2img"),
        "outdir_img2img_samples": str(tmp_path / "img2img"),
        "outdir_txt2img_grids": str(tmp_path / "grids"),
        "outdir_img2img_grids": str(tmp_path / "grids"),
    }
    webui.settings(imagereward_scorer=SCORER, imagereward_always_score=False, **folders)
    yield webui
    webui.restore()
