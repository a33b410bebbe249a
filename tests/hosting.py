"""A WebUI to test against: the demo host in a process of its own, or the one at $WEBUI_URL.

Other tests use the fixture `client_of_host` (any WebUI) or `demo_host` (the demo's own, with its folders).
"""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
RECORDER = ROOT / "tests" / "demo_host" / "hook_recorder"
START_SECONDS = 600  # for a very busy machine: on two idle cores a cold start takes about ten


@dataclass
class RunningHost:
    """A host that answers, and where its files are."""

    url: str
    data: Path
    process: subprocess.Popen[str] | None = None
    """None for a host that somebody else started."""
    lines: list[str] = field(default_factory=list)

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def outputs(self) -> list[Path]:
        """Every file the host has saved."""
        return sorted(path for path in (self.data / "outputs").rglob("*") if path.is_file())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_host(
    data: Path, checkpoints: Path, extensions: Sequence[Path] = (), flags: Sequence[str] = ()
) -> Iterator[RunningHost]:
    """Start the demo host with these extensions, wait until it answers, and stop it at the end."""
    port = free_port()
    command = [
        sys.executable,
        str(ROOT / "demo" / "host" / "launch.py"),
        "--port",
        str(port),
        "--skip-install",
    ]
    command += ["--data-dir", str(data), "--ckpt-dir", str(checkpoints), *flags]
    for extension in extensions:
        command += ["--extension", str(extension)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    # Locks of devices lie in the folder for temporary files: another test's training shall not stand in this one's way.
    environment["TMPDIR"] = str(data / "temporary")
    Path(environment["TMPDIR"]).mkdir(parents=True, exist_ok=True)
    environment.pop(
        "PYTHONPATH", None
    )  # the host finds an extension's package through the WebUI's own means alone
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=data
    )
    host = RunningHost(f"http://127.0.0.1:{port}", data, process)
    started = threading.Event()
    threading.Thread(target=_follow, args=(host, started), daemon=True).start()
    try:
        _wait(host, started)
        yield host
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()


def _follow(host: RunningHost, started: threading.Event) -> None:
    assert host.process.stdout is not None
    for line in host.process.stdout:
        host.lines.append(line)
        if line.startswith("Startup time"):  # earlier requests can find half an API
            started.set()


def _wait(host: RunningHost, started: threading.Event) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not started.wait(0.1):
        if host.process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"the demo host did not start:\n{host.log}")
    for _ in range(100):  # without the page, uvicorn opens its port just after that line
        try:
            requests.get(f"{host.url}/sdapi/v1/cmd-flags", timeout=30)
        except requests.ConnectionError:
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"the demo host does not listen:\n{host.log}")


class Client:
    """The HTTP API of a WebUI, spoken in a few words."""

    def __init__(self, url: str, auth: tuple[str, str] | None = None) -> None:
        self.url = url.rstrip("/")
        self.auth = auth

    def get(self, path: str, **params: Any) -> Any:
        return self._answer("GET", path, params=params)

    def post(self, path: str, **body: Any) -> Any:
        return self._answer("POST", path, json=body)

    def request(self, method: str, path: str, **more: Any) -> requests.Response:
        return requests.request(method, f"{self.url}{path}", auth=self.auth, timeout=600, **more)

    def _answer(self, method: str, path: str, **more: Any) -> Any:
        response = self.request(method, path, **more)
        assert response.ok, f"{method} {path}: {response.status_code} {response.text[:2000]}"
        return response.json()

    def txt2img(self, **request: Any) -> Answer:
        """Generate small and quickly, unless the request says otherwise."""
        return Answer(self.post("/sdapi/v1/txt2img", **{**QUICK, **request}))

    def img2img(self, image: Image.Image, **request: Any) -> Answer:
        return Answer(self.post("/sdapi/v1/img2img", **{**QUICK, "init_images": [encoded(image)], **request}))

    def events(self) -> list[dict[str, Any]]:
        """What the hook recorder has seen since the last :meth:`forget_events`."""
        return self.get("/hook-recorder/events")

    def forget_events(self) -> None:
        self.request("DELETE", "/hook-recorder/events")


QUICK = {"prompt": "a red circle", "width": 64, "height": 64, "steps": 2, "seed": 1, "sampler_name": "Euler"}


class Answer:
    """What txt2img and img2img answer."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.parameters = answer["parameters"]
        self.info: dict[str, Any] = json.loads(answer["info"])
        self.images = [decoded(text) for text in answer["images"]]


def encoded(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def decoded(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a random-weight checkpoint for the demo host, where its libraries are."""
    pytest.importorskip("gradio", minversion="4.0", reason="the demo host speaks gradio 4")
    pytest.importorskip("diffusers", reason="the demo host draws with diffusers")
    from tests.demo_host.checkpoint import write_checkpoint

    return write_checkpoint(tmp_path_factory.mktemp("checkpoints")).parent


CREDENTIALS = ("someone", "secret")
STYLES = "name,prompt,negative_prompt\nround,a circle of {prompt},square\nold,in oil,\n"


@pytest.fixture(scope="session")
def demo_host(tmp_path_factory: pytest.TempPathFactory, random_checkpoint: Path) -> Iterator[RunningHost]:
    """A demo host with the hook recorder in it, credentials, styles and a LoRA, for as many tests as want one."""
    from tests.demo_host.checkpoint import write_lora

    data = tmp_path_factory.mktemp("webui")
    (data / "styles.csv").write_text(STYLES, encoding="utf-8")
    write_lora(data / "models" / "Lora" / "strong.safetensors")
    with running_host(data, random_checkpoint, [RECORDER], ["--api-auth", ":".join(CREDENTIALS)]) as host:
        yield host


@pytest.fixture(scope="session")
def client_of_host(request: pytest.FixtureRequest) -> Client:
    """Speak to the WebUI at $WEBUI_URL, else to the demo host."""
    if "WEBUI_URL" in os.environ:
        return Client(os.environ["WEBUI_URL"])
    return Client(request.getfixturevalue("demo_host").url, CREDENTIALS)
