"""`python -m demo --once`: the extension's main job in the demo host, in one command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.hosting import ROOT
from tests.tiny import make_tiny_scorer_folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, random_checkpoint):
    """Run once with random weights; give the finished process and its data folder."""
    data, home = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("scorers")
    make_tiny_scorer_folder(home / "demo-reward", name="demo-reward", label="DemoReward")
    command = [
        sys.executable,
        "-m",
        "demo",
        "--once",
        "a red circle",
        "--count",
        "3",
        "--limit",
        "-90",
        "--best",
        "1",
    ]
    command += ["--steps", "2", "--seed", "4", "--data-dir", str(data), "--ckpt-dir", str(random_checkpoint)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "IMAGEREWARD_HOME": str(home)}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    return done, data


def rows(output):
    """The table's rows as (score, verdict, path)."""
    lines = output.splitlines()
    start = next(i for i, line in enumerate(lines) if line.split() == ["score", "verdict", "path"])
    return [
        (float(score), verdict, Path(path)) for score, verdict, path in map(str.split, lines[start + 1 : -1])
    ]


def test_the_table_tells_score_verdict_and_path_of_every_image(run):
    done, _ = run
    assert done.returncode == 0, done.stdout + done.stderr
    found = rows(done.stdout)
    assert [path.name for _, _, path in found] == ["00000-4.png", "00001-5.png", "00002-6.png"]
    best = max(score for score, _, _ in found)
    assert [verdict for _, verdict, _ in found] == [
        "passed" if score == best else "rejected" for score, _, _ in found
    ]
    assert done.stdout.splitlines()[-1] == "1 of 3 images passed."


def test_the_files_are_where_the_table_says_and_hold_their_scores(run):
    done, data = run
    for score, verdict, path in rows(done.stdout):
        assert (path.parent.name == "rejected") == (verdict == "rejected")
        with Image.open(path) as image:
            assert image.size == (64, 64)
            assert f"DemoReward: {score:.4f}".replace(": +", ": ") in image.info["parameters"]
    assert not list(data.rglob("grid-*.png"))  # one image is left: no grid


def test_nothing_on_stderr_but_warnings(run):
    done, _ = run
    assert "Traceback" not in done.stderr
    assert "***" not in done.stderr


def test_any_empty_data_folder_begins_with_the_demos_scorer(run):
    _, data = run
    settings = json.loads((data / "config.json").read_text("utf-8"))
    assert settings["imagereward_scorer"] == "demo-reward"
    assert settings["imagereward_always_score"] is True


def test_ctrl_c_is_one_line(tmp_path, random_checkpoint):
    make_tiny_scorer_folder(tmp_path / "scorers" / "demo-reward", name="demo-reward", label="DemoReward")
    command = [sys.executable, "-m", "demo", "--once", "a red circle", "--count", "1000"]
    command += ["--data-dir", str(tmp_path / "data"), "--ckpt-dir", str(random_checkpoint)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    environment["IMAGEREWARD_HOME"] = str(tmp_path / "scorers")
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        assert "Loaded" in demo.stdout.readline()
        demo.send_signal(signal.SIGINT)
        _, told = demo.communicate(timeout=300)
    assert demo.returncode == 130
    assert told.splitlines()[-1] == "stopped; images that were saved stay where they are"
    assert "Traceback" not in told
