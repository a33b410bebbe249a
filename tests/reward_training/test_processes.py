"""Several processes share the work and give the model that one gives."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.preferences import make_preferences
from tests.tiny import make_tiny_scorer_folder
from tests.tiny_clip import make_clip_folder

ROOT = Path(__file__).parents[2]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def train(folder, name, processes, *options):
    launch = ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", f"--master_port={free_port()}"]
    command = [
        sys.executable,
        *launch,
        "-m",
        "imagereward_ext",
        "train-reward",
        str(folder / "data" / "rankings.json"),
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "IMAGEREWARD_HOME": str(folder),
        "TMPDIR": str(folder),
    }
    arguments = ["--output", str(folder / name), "--cpu", "--no-dropout", "--no-download", *options]
    done = subprocess.run(
        [*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("pairs to learn from") == 1, "only the first process speaks"
    lines = (folder / f"{name}-training" / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["kind"] == "check"]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["imagereward", "clip-mlp"])
def test_two_processes_train_what_one_trains(tmp_path, recipe):
    make_preferences(tmp_path / "data", prompts=16, images=(3, 5))
    # 13 pairs do not split evenly between two processes.
    options = ["--recipe", recipe, "--epochs", "2", "--learning-rate", "1e-3", "--pairs-per-step", "13"]
    if recipe == "imagereward":
        options += ["--init", str(make_tiny_scorer_folder(tmp_path / "start"))]
    else:
        options += ["--tower", str(make_clip_folder(tmp_path / "clip"))]
    one, two = (train(tmp_path, name, processes, *options) for name, processes in (("one", 1), ("two", 2)))
    assert len(one) > 2
    for alone, together in zip(one, two, strict=True):
        assert together == pytest.approx(alone, abs=2e-5)
    assert (tmp_path / "two" / "config.json").is_file()
