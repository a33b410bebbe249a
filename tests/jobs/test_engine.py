"""The trainer with the engine itself: a tiny checkpoint, a tiny scorer, a real LoRA."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import asdict

import pytest

from imagereward_ext.jobs import runs
from imagereward_ext.jobs.order import Order
from imagereward_ext.jobs.trainer import Trainer
from tests.refl.world import tiny_config
from tests.tiny import make_tiny_scorer_folder

pytest.importorskip("peft")
PATIENCE = 240.0


def test_kill_resume_and_finish_a_real_training(tmp_path):
    make_tiny_scorer_folder(tmp_path / "scorers" / "tiny")
    loras = tmp_path / "Lora"
    config = tiny_config(
        tmp_path, scorers="tiny", updates=400, save_every=1, check_every=100, lora_dir=str(loras)
    )
    trainer = Trainer(tmp_path / "runs", lambda order: None, lambda order: None, tmp_path / "locks")
    order = Order(asdict(config), device="cpu", scorers=str(tmp_path / "scorers"), download=False)
    trainer.start(order)
    run = until(trainer, runs.RUNNING, step=3)
    os.kill(run.pid, signal.SIGKILL)
    killed = until(trainer, runs.KILLED)
    assert killed.resumable
    assert trainer.wait(PATIENCE)

    trainer.resume("run")
    until(trainer, runs.RUNNING, step=killed.step + 2)
    trainer.stop("run")
    stopped = until(trainer, runs.STOPPED)
    assert killed.step < stopped.step < 400
    assert (loras / f"{stopped.lora}.safetensors").stat().st_size > 1000
    folder = tmp_path / "runs" / "run"
    steps = [e["step"] for e in runs.read_events(folder, 0).events if e["kind"] == "update"]
    assert steps == list(range(1, stopped.step + 1))
    assert list((folder / "samples").rglob("*.png"))


def until(trainer, *states, step=0):
    deadline = time.monotonic() + PATIENCE
    while True:
        run = trainer.run("run")
        if run.state in states and run.step >= step:
            return run
        log = runs.log_tail(trainer.path("run"), 40)
        assert run.state not in (runs.FAILED, runs.FINISHED), f"{run}\n{log}"
        assert time.monotonic() < deadline, f"{run}\n{log}"
        time.sleep(0.05)
