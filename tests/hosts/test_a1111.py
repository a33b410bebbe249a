"""The checkpoint of AUTOMATIC1111, taken away and given back, on the demo host's modules."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.hosting import ROOT

TAKE_AND_GIVE = """
import sys
sys.argv = ["launch.py", "--skip-install", "--data-dir", sys.argv[1]]
sys.path[:0] = [{root!r}, {host!r}]
from modules import initialize, sd_models, sd_vae, shared
from imagereward_ext.hosts.a1111 import A1111

initialize.initialize_settings()
loads = []
sd_models.load_model = lambda *arguments: loads.append("loaded")
sd_models.send_model_to_trash = lambda model: None
sd_models.model_data.set_sd_model(object())
own = sd_models.reload_model_weights = lambda **how: loads.append(how)
own_vae = sd_vae.reload_vae_weights = lambda: loads.append("vae")
checkpoints = A1111().checkpoints
checkpoints.make_room()
checkpoints.make_room()
assert shared.opts.set("sd_model_checkpoint", "other")
sd_vae.reload_vae_weights()
assert shared.opts.sd_model_checkpoint == "other", "what is chosen stays chosen"
assert shared.sd_model is None and not loads, "neither the page nor another choice loads in the middle of a training"
checkpoints.load_when_asked()
assert not loads, "only when something asks"
assert (sd_models.reload_model_weights, sd_vae.reload_vae_weights) == (own, own_vae)
shared.sd_model
assert loads == ["loaded"]
checkpoints.make_room()
checkpoints.restore()
assert loads == ["loaded", dict(forced_reload=True)]
"""


def test_a_checkpoint_that_was_taken_away_comes_back_when_the_host_asks_for_it(tmp_path):
    pytest.importorskip("gradio", minversion="4.0", reason="the demo host speaks gradio 4")
    pytest.importorskip("diffusers", reason="the demo host draws with diffusers")
    code = TAKE_AND_GIVE.format(root=str(ROOT), host=str(ROOT / "demo" / "host"))
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
