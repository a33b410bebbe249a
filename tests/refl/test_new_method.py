"""One more training method is one file beside the others; the setting, its choices and the run take it from there."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

from tests.hosting import ROOT

ONE_FILE = '''
"""Half-hearted: a quarter of the loss, on the first three images that the current model makes in every round."""

from imagereward_ext.refl.methods import Method


class HalfHearted(Method):
    in_rounds = True

    def images_per_prompt(self, config):
        return 2

    def kept(self, pool, keep_share):
        return slice(0, 3)

    def weights(self, rewards):
        return super().weights(rewards) / 4

    def update(self, algorithm, step, optimise):
        seen = algorithm.pool.prompts.tolist()
        return {**super().update(algorithm, step, optimise), "images": len(seen), "prompts": len(set(seen))}


METHOD = HalfHearted()
'''
# The choices are read when the settings are: in a process of its own the file is there before.
TRAIN = """
import sys
from pathlib import Path
from imagereward_ext.refl import methods
methods.__path__.append(sys.argv[2])

from imagereward_ext.refl.training import train
from tests.refl.world import load_taste, silent, tiny_config

config = tiny_config(
    Path(sys.argv[1]), method="half-hearted", prior_images=6, rounds=2, updates=2, guard=False
)
print(train(config, load_taste, silent).folder)
"""


def test_it_trains_by_its_own_rules(tmp_path):
    package = tmp_path / "beside"
    package.mkdir()
    (package / "half_hearted.py").write_text(textwrap.dedent(ONE_FILE))
    run = subprocess.run(
        [sys.executable, "-c", TRAIN, str(tmp_path), str(package)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    folder = tmp_path / "runs" / "run"
    assert run.stdout.split() == [str(folder)]
    assert sorted(path.name for path in folder.glob("pool-*")) == ["pool-0.safetensors", "pool-1.safetensors"]
    events = map(json.loads, (folder / "events.jsonl").read_text().splitlines())
    updates = [event for event in events if event["kind"] == "update"]
    assert len(updates) == 2
    for update in updates:
        assert (update["images"], update["prompts"]) == (3, 2)
        assert update["loss"] == pytest.approx(update["denoising"] / 4, rel=1e-5) and update["loss"] > 0
