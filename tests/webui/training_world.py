"""A demo host in which a training takes seconds: a random checkpoint with its yaml, and two small scorers."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from tests.tiny import make_tiny_scorer_folder

FIELDS = {
    "prompt_source": "typed below", "prompt_text": "a red fox\na blue house\na green tree\na white cat",
    "scorers": "tiny", "judge": "other", "batch": 2, "steps": 4, "first_step": 2, "last_step": 3, "updates": 12,
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
    """Put the scorers and a prompt file into a host's folder, and choose a scorer."""
    scorers = data / "models" / "ImageReward"
    make_tiny_scorer_folder(scorers / "tiny", label="ImageReward")
    make_tiny_scorer_folder(scorers / "other", name="other", label="Other")
    (scorers / "prompts").mkdir()
    (scorers / "prompts" / "mine.txt").write_text("a red fox\na blue house\n")
    (scorers / "prompts" / "garbage.txt").write_bytes(bytes(range(128, 256)) * 20)
    (data / "config.json").write_text(json.dumps({"imagereward_scorer": "tiny"}))
