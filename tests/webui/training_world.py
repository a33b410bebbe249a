"""A host in which a training takes seconds: a small checkpoint with its yaml, and two small scorers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from imagereward_ext.webui.refl_tab import form
from tests.hosting import ROOT, Client, RunningHost, running_host
from tests.tiny import make_tiny_scorer_folder

OURS = ("watched", "nicer", "victim", "gone", "early", "late", "refl-1", "shown")
"""The runs of these tests: an earlier round may have left them in a host that is not ours."""

CHECKPOINT = os.environ.get("WEBUI_CHECKPOINT", form.LOADED)
"""With $WEBUI_URL: a small checkpoint of that host's list to train, where the loaded one is too large for it."""

FIELDS = {
    "checkpoint": CHECKPOINT,
    "prompt_source": "typed below", "prompt_text": "a red fox\na blue house\na green tree\na white cat",
    "scorers": os.environ.get("WEBUI_SCORER", "tiny"), "judge": "other", "batch": 2, "steps": 4, "first_step": 2, "last_step": 3, "updates": 12,
    "check_every": 2, "check_images": 2, "shown_images": 1, "save_every": 1, "compare": 2, "guard": False,
    "rank": 2, "alpha": 2.0,
}  # fmt: skip


def write_yaml(checkpoint: Path, width: int = 32) -> None:
    """Describe `tests.demo_host.checkpoint`'s sizes as a WebUI's user would: beside the file."""
    unet = {"in_channels": 4, "out_channels": 4, "model_channels": width, "channel_mult": [1, 2], "num_res_blocks": 1,
            "attention_resolutions": [1], "num_heads": 2, "context_dim": 32}  # fmt: skip
    vae = {"in_channels": 3, "out_ch": 3, "ch": 32, "ch_mult": [1] * 4, "num_res_blocks": 1, "z_channels": 4}
    params = {"image_size": 8, "unet_config": {"params": unet}, "first_stage_config": {"params": {"ddconfig": vae}},
              "cond_stage_config": {"params": {"heads": 2}}}  # fmt: skip
    checkpoint.with_suffix(".yaml").write_text(yaml.safe_dump({"model": {"params": params}}))


def furnish(data: Path) -> None:
    """Put the scorers and a prompt file into a host's folder, and choose both."""
    scorers = data / "models" / "ImageReward"
    make_tiny_scorer_folder(scorers / "tiny", label="ImageReward")
    make_tiny_scorer_folder(scorers / "other", name="other", label="Other")
    (scorers / "prompts").mkdir()
    (scorers / "prompts" / "mine.txt").write_text("a red fox\na blue house\n")
    (scorers / "prompts" / "garbage.txt").write_bytes(bytes(range(128, 256)) * 20)
    (data / "config.json").write_text(json.dumps({"imagereward_scorer": "tiny"}))
    begin = {"Prompts": "from a file", "File": "mine.txt"}
    begin = {f"imagereward_refl/{label}/value": value for label, value in begin.items()}
    (data / "ui-config.json").write_text(json.dumps(begin))


@contextmanager
def training_host(factory: pytest.TempPathFactory, *more: Path) -> Iterator[RunningHost]:
    """Lend the WebUI at $WEBUI_URL whose data folder is $WEBUI_DATA, or start a demo host with these extensions."""
    if "WEBUI_URL" in os.environ:
        if "WEBUI_DATA" not in os.environ:
            pytest.skip("needs WEBUI_DATA=<that host's data folder>, with a small checkpoint loaded")
        host = RunningHost(os.environ["WEBUI_URL"].rstrip("/"), Path(os.environ["WEBUI_DATA"]))
        forget_runs(Client(host.url))
        yield host
        return
    pytest.importorskip("gradio", minversion="4.0", reason="the demo host speaks gradio 4")
    pytest.importorskip("peft")
    from tests.demo_host.checkpoint import write_checkpoint

    checkpoint = write_checkpoint(factory.mktemp("checkpoints"))
    write_yaml(checkpoint)
    data = factory.mktemp("webui")
    furnish(data)
    with running_host(data, checkpoint.parent, [*more, ROOT]) as host:
        yield host


def forget_runs(client: Client) -> None:
    """Delete what an earlier round of these tests has left."""
    for run in client.get("/imagereward/v1/train/runs")["runs"]:
        if run["name"] in OURS:
            client.post("/imagereward/v1/train/delete", name=run["name"])
