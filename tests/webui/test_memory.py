"""Memory as the operating system sees it: what is unloaded has really left the WebUI's process.

Full-size weights, since on small ones this would measure the allocator.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagereward_ext.scorers.image_reward import Architecture
from imagereward_ext.scorers.size import size_of
from tests.hosting import ROOT, Client, RunningHost, encoded, running_host
from tests.tiny import make_tiny_scorer_folder, picture
from tests.webui.training_world import FIELDS, furnish, write_yaml

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc"),
]

PATIENCE = 900  # seconds
ROUNDS = 10
EXACT = 0.10
"""How far what is freed or taken may lie from the weights' own size."""
GROWTH = 0.02
WIDTH = 512  # of the checkpoint's UNet: some 600 MB
TRAIN = "/imagereward/v1/train"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("gradio", minversion="4.0", reason="the demo host speaks gradio 4")
    pytest.importorskip("peft")
    from tests.demo_host.checkpoint import write_checkpoint

    file = write_checkpoint(tmp_path_factory.mktemp("checkpoints"), width=WIDTH)
    write_yaml(file, WIDTH)
    return file


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Iterator[RunningHost]:
    data = tmp_path_factory.mktemp("webui")
    furnish(data)
    make_tiny_scorer_folder(
        data / "models" / "ImageReward" / "full", name="full", architecture=Architecture()
    )
    with running_host(data, checkpoint.parent, [ROOT]) as host:
        yield host


class Memory:
    """What the host's process holds, in bytes; whatever it is asked for is told.

    Its own memory, and the weight files it has mapped, whole: the kernel may take their pages away and bring them
    back as it likes, so what is resident of them says little.
    """

    def __init__(self, host: RunningHost) -> None:
        self._process = Path(f"/proc/{host.process.pid}")

    def __call__(self, when: str) -> int:
        held = self._own() + self._mapped()
        print(f"{held / 2**20:6.0f} MB  {when}")
        return held

    def _own(self) -> int:
        lines = (self._process / "status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("RssAnon:")).split()[1])

    def _mapped(self) -> int:
        lines = (self._process / "maps").read_text().splitlines()
        ranges = [line.split()[0].split("-") for line in lines if line.endswith(".safetensors")]
        return sum(int(end, 16) - int(start, 16) for start, end in ranges)


def score(client: Client) -> None:
    client.post("/imagereward/v1/score", images=[encoded(picture())], prompts=["a cat"], scorer="full")


def until(client: Client, *states: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while (run := client.get(f"{TRAIN}/status", run="run")["run"])["state"] not in states:
        assert time.monotonic() < deadline, run
        assert run["state"] not in ("failed", "killed"), run
        time.sleep(0.2)


def test_what_is_unloaded_is_gone(host: RunningHost, checkpoint: Path) -> None:
    client, memory = Client(host.url), Memory(host)
    scorer = size_of(str(host.data / "models" / "ImageReward" / "full"))
    model = size_of(str(checkpoint))
    print(f"\n{scorer / 2**20:6.0f} MB  the scorer's weights\n{model / 2**20:6.0f} MB  the checkpoint's")
    memory("started")
    client.txt2img()
    score(client)  # libraries are loaded with the first one, and stay
    client.post("/imagereward/v1/unload")
    first = before = memory("an image was made, a scorer loaded and unloaded once")
    loaded_first = 0
    for number in range(1, ROUNDS + 1):
        score(client)
        loaded = memory(f"round {number}: loaded")
        loaded_first = loaded_first or loaded
        client.post("/imagereward/v1/unload")
        after = memory(f"round {number}: unloaded")
        assert loaded - before == pytest.approx(scorer, rel=EXACT)
        assert loaded - after == pytest.approx(scorer, rel=EXACT)
        before = after
    assert loaded <= (1 + GROWTH) * loaded_first
    assert after - first <= GROWTH * scorer

    score(client)
    full = memory("scorer and checkpoint loaded, before a training")
    client.post(f"{TRAIN}/start", **FIELDS | {"name": "run", "updates": 100_000, "check_every": 1000})
    until(client, "running")
    training = memory("while it trains")
    assert full - training == pytest.approx(scorer + model, rel=EXACT)
    client.post(f"{TRAIN}/stop", name="run")
    until(client, "stopped")
    ended = memory("it has ended")
    assert ended <= (1 + GROWTH) * training, "the training's memory was never the WebUI's"
    client.txt2img()
    again = memory("the next generation has brought the checkpoint back")
    assert again - ended == pytest.approx(model, rel=EXACT)
    log = (host.data / "imagereward" / "runs" / "run" / "log.txt").read_text()
    print(next(line for line in log.splitlines() if "unloaded" in line))
