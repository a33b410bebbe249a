"""The trainer with the engine itself: a tiny checkpoint, a tiny scorer, a real LoRA."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import asdict, replace

import pytest

from imagereward_ext.errors import ImageRewardError
from imagereward_ext.jobs import child, runs
from imagereward_ext.jobs.order import Order
from imagereward_ext.jobs.trainer import Trainer
from imagereward_ext.refl.run_folder import RunFolder
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


@pytest.fixture
def trained(tmp_path):
    """The order of a training that is done, with settings that its checkpoint needs."""
    config = tiny_config(tmp_path, prediction="v_prediction", precision="bf16")
    order = Order(asdict(config), compare=2, compare_guidance=2.5, device="cpu", download=False)
    order.folder.mkdir(parents=True)
    RunFolder(order.folder).write_config(config, {})
    outcome = {"ending": "finished", "reason": "done", "lora": "run-000003.safetensors"}
    (order.folder / "outcome.json").write_text(json.dumps(outcome))
    return order


def test_the_comparison_reads_the_checkpoint_as_the_training_did(trained):
    from imagereward_ext.cli import parse

    given = parse("compare", child._comparison(trained))
    assert (given.prediction, given.precision) == ("v_prediction", "bf16")


@pytest.fixture
def resumed(tmp_path):
    """The order of a run that was stopped after 4 updates, resumed, and is done after 12."""
    loras = tmp_path / "Lora"
    order = Order(
        {"name": "run", "output": str(tmp_path / "runs"), "lora_dir": str(loras)}, resume=True, device="cpu"
    )
    loras.mkdir()
    order.folder.mkdir(parents=True)
    for step, ending in ((4, "asked"), (12, "finished")):
        name = f"run-{step:06d}"
        event = {"kind": "end", "step": step, "ending": ending, "lora": f"{name}.safetensors"}
        with (order.folder / "events.jsonl").open("a") as file:
            file.write(json.dumps(event) + "\n")
        for suffix in ("safetensors", "json", "png"):
            for folder in (order.folder, loras):
                (folder / f"{name}.{suffix}").write_text(f"{step} {suffix}")
    return order, loras


def lora_names(folder):
    return sorted({path.stem for path in folder.iterdir()})


def test_a_resumed_run_leaves_one_lora_in_the_lora_folder(resumed, monkeypatch, tmp_path):
    order, loras = resumed
    order.write()
    ending = {"ending": "finished", "reason": "done", "lora": "run-000012.safetensors"}
    monkeypatch.setattr(child, "_train", lambda order: (ending, 0))
    monkeypatch.setattr(child.signal, "signal", lambda *arguments: None)
    assert child.main(order.folder, tmp_path / "device.lock", follow=False) == 0
    assert lora_names(loras) == ["run-000012"]
    assert (order.folder / "run-000004.safetensors").exists(), "the run's own files stay"


@pytest.mark.parametrize("why", ["changed", "ordered", "same step"])
def test_a_lora_of_a_stopped_run_stays_that_somebody_wants(resumed, why):
    order, loras = resumed
    if why == "changed":
        (loras / "run-000004.json").write_text("my own notes")
    elif why == "ordered":
        order = replace(order, config={**order.config, "lora_every": 2})
    child._replace_interim(
        order, "run-000004.safetensors" if why == "same step" else "run-000012.safetensors"
    )
    assert lora_names(loras) == ["run-000004", "run-000012"]


@pytest.fixture
def signals():
    """A signal that nobody answers is none, and the process's own way to answer comes back."""
    before = signal.signal(signal.SIGTERM, lambda *arguments: None)
    yield
    signal.signal(signal.SIGTERM, before)


def outcome(order):
    return json.loads((order.folder / "outcome.json").read_text())


@pytest.mark.usefixtures("signals")
def test_a_signal_that_comes_before_the_engine_begins_is_not_forgotten(trained, monkeypatch, tmp_path):
    trained.write()
    take = child.Lock.take

    def signalled(lock, about):
        signal.raise_signal(signal.SIGTERM)
        return take(lock, about)

    monkeypatch.setattr(child.Lock, "take", signalled)
    monkeypatch.setattr(child, "_engine", lambda order: pytest.fail("the engine began"))
    assert child.main(trained.folder, tmp_path / "device.lock", follow=False) == 0
    assert outcome(trained) == {"ending": "asked", "reason": "stopped before the first update"}


@pytest.mark.usefixtures("signals")
def test_a_signal_after_the_engine_has_failed_does_not_hide_why(trained, monkeypatch, tmp_path):
    trained.write()
    write = child._write_outcome

    def fails(order):
        raise ImageRewardError("no checkpoint")

    def signalled(folder, ending):
        signal.raise_signal(signal.SIGTERM)
        write(folder, ending)

    monkeypatch.setattr(child, "_engine", fails)
    monkeypatch.setattr(child, "_write_outcome", signalled)
    assert child.main(trained.folder, tmp_path / "device.lock", follow=False) == 1
    assert outcome(trained) == {"ending": "failed", "reason": "no checkpoint"}


def test_a_training_that_was_asked_to_stop_in_its_last_update_compares_nothing(trained, monkeypatch, capsys):
    monkeypatch.setattr("imagereward_ext.cli.main", lambda arguments: pytest.fail("it compares"))
    (trained.folder / child.STOP).touch()
    assert child._compare(trained) == 0
    assert "the comparison was stopped" in capsys.readouterr().out


def test_a_comparison_that_is_stopped_is_not_called_done(trained, monkeypatch, capsys):
    def stopped(arguments):
        raise child._StoppedWhileLoadingError

    monkeypatch.setattr("imagereward_ext.cli.main", stopped)
    assert child._compare(trained) == 0
    said = capsys.readouterr().out
    assert "the comparison was stopped" in said
    assert "done" not in said


def test_a_training_without_a_lora_compares_nothing(trained, monkeypatch, tmp_path, capsys):
    trained.write()
    ending = {"ending": "guard", "reason": "the judge fell", "lora": ""}
    monkeypatch.setattr(child, "_train", lambda order: (ending, 0))
    monkeypatch.setattr(child, "_compare", lambda order: pytest.fail("there is nothing to compare"))
    monkeypatch.setattr(child.signal, "signal", lambda *arguments: None)
    assert child.main(trained.folder, tmp_path / "device.lock", follow=False) == 0
    monkeypatch.setattr(child, "_train", lambda order: (child._failed("no checkpoint"), 1))
    # The lock of the run is the process's own.
    again = replace(trained, config={**trained.config, "name": "again"})
    again.write()
    assert child.main(again.folder, tmp_path / "other.lock", follow=False) == 1


def test_the_comparison_draws_with_the_guidance_that_was_ordered(trained):
    from imagereward_ext.cli import parse

    assert parse("compare", child._comparison(trained)).guidance == 2.5
