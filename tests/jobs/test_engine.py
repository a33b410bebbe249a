"""The trainer with the engine itself: a tiny checkpoint, a tiny scorer, a real LoRA."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from imagereward_ext.errors import ImageRewardError
from imagereward_ext.evaluation import comparison
from imagereward_ext.jobs import child, runs
from imagereward_ext.jobs.comparison import comparison_request
from imagereward_ext.jobs.interruption import StoppedEarlyError
from imagereward_ext.jobs.lora_folder import replace_interim
from imagereward_ext.jobs.order import JobError, Order
from imagereward_ext.jobs.trainer import Trainer
from imagereward_ext.refl.run_folder import RunFolder
from imagereward_ext.training.lock import Lock
from imagereward_ext.training.record import RunRecord, State
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
    run = until(trainer, "running", step=3)
    os.kill(run.pid, signal.SIGKILL)
    killed = until(trainer, "killed")
    assert killed.resumable
    assert trainer.queue.wait(PATIENCE)

    trainer.resume("run")
    until(trainer, "running", step=killed.step + 2)
    trainer.stop("run")
    stopped = until(trainer, "stopped")
    assert killed.step < stopped.step < 400
    assert (loras / f"{stopped.lora}.safetensors").stat().st_size > 1000
    folder = tmp_path / "runs" / "run"
    steps = [e["step"] for e in runs.read_events(folder, 0).objects if e["kind"] == "update"]
    assert steps == list(range(1, stopped.step + 1))
    assert list((folder / "samples").rglob("*.png"))


def until(trainer, *states, step=0):
    deadline = time.monotonic() + PATIENCE
    while True:
        run = trainer.runs.run("run")
        if run.state in states and run.step >= step:
            return run
        log = runs.log_tail(trainer.runs.path("run"), 40)
        assert run.state not in ("failed", "finished"), f"{run}\n{log}"
        assert time.monotonic() < deadline, f"{run}\n{log}"
        time.sleep(0.05)


@pytest.fixture
def trained(tmp_path):
    """The order of a training that is done, with settings that its checkpoint needs."""
    config = tiny_config(
        tmp_path, prediction="v_prediction", precision="bf16", judge="other", width=32, height=48
    )
    order = Order(asdict(config), compare=2, compare_guidance=2.5, device="cpu", download=False)
    order.write()
    RunFolder(order.folder).write_config(config, {})
    order.record.begin(compares=True)
    order.record.end(State.FINISHED, "done", "run-000003.safetensors")
    return order


def test_the_comparison_is_of_what_was_trained_read_as_the_training_read_it(trained):
    asked = comparison_request(trained)
    config = trained.config
    assert (asked.prediction, asked.precision, asked.cpu) == ("v_prediction", "bf16", True)
    assert (asked.base, asked.loras) == (
        Path(config["checkpoint"]),
        (trained.folder / "run-000003.safetensors",),
    )
    assert asked.scorers == ("red", "other")
    assert (asked.width, asked.height, asked.weights, asked.guidance) == (32, 48, (0.5, 0.8, 1.0), 2.5)
    assert asked.output == trained.folder / "comparison"
    assert not asked.download


def test_the_comparison_takes_prompts_from_all_over_the_list(trained, tmp_path):
    (tmp_path / "many.json").write_text(json.dumps([f"prompt\n{number}" for number in range(10)]))
    asked = comparison_request(replace(trained, compare=5, compare_prompts=str(tmp_path / "many.json")))
    assert asked.prompts == ("prompt 0", "prompt 2", "prompt 4", "prompt 6", "prompt 8")


def test_without_a_lora_there_is_nothing_to_compare(trained):
    trained.record.begin()
    trained.record.end(State.STOPPED, "the base is best")
    with pytest.raises(JobError, match="'run' has no LoRA to compare"):
        comparison_request(trained)


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


@pytest.mark.usefixtures("signals")
def test_a_resumed_run_leaves_one_lora_in_the_lora_folder(resumed, monkeypatch, tmp_path):
    order, loras = resumed
    order.write()

    def finishes(order):
        order.record.end(State.FINISHED, "done", "run-000012.safetensors")
        return SimpleNamespace(reason="done", lora=Path("run-000012.safetensors"))

    monkeypatch.setattr(child, "_engine", finishes)
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
    list(replace_interim(order, f"run-{4 if why == 'same step' else 12:06d}.safetensors"))
    assert lora_names(loras) == ["run-000004", "run-000012"]


@pytest.fixture
def signals():
    """A signal that nobody answers is none, and the process's own way to answer comes back."""
    before = signal.signal(signal.SIGTERM, lambda *arguments: None)
    yield
    signal.signal(signal.SIGTERM, before)


def ending(order):
    entry = order.record.read()
    return entry.state, entry.reason


@pytest.mark.usefixtures("signals")
def test_a_signal_that_comes_before_the_engine_begins_is_not_forgotten(trained, monkeypatch, tmp_path):
    trained.record.begin()
    take = Lock.take

    def signalled(lock, about):
        signal.raise_signal(signal.SIGTERM)
        return take(lock, about)

    monkeypatch.setattr(Lock, "take", signalled)
    monkeypatch.setattr(child, "_engine", lambda order: pytest.fail("the engine began"))
    assert child.main(trained.folder, tmp_path / "device.lock", follow=False) == 0
    assert ending(trained) == (State.STOPPED, "stopped before the first update")


@pytest.mark.usefixtures("signals")
def test_a_signal_after_the_engine_has_failed_does_not_hide_why(trained, monkeypatch, tmp_path):
    trained.record.begin()
    give_up = RunRecord.give_up

    def fails(order):
        raise ImageRewardError("no checkpoint")

    def signalled(record, state, reason):
        signal.raise_signal(signal.SIGTERM)
        give_up(record, state, reason)

    monkeypatch.setattr(child, "_engine", fails)
    monkeypatch.setattr(RunRecord, "give_up", signalled)
    assert child.main(trained.folder, tmp_path / "device.lock", follow=False) == 1
    assert ending(trained) == (State.FAILED, "no checkpoint")


@pytest.mark.usefixtures("signals")
def test_a_device_that_cannot_be_locked_is_told(trained, tmp_path, capsys):
    (tmp_path / "no folder").touch()
    assert child.main(trained.folder, tmp_path / "no folder" / "device.lock", follow=False) == child.FAILED
    entry = trained.record.read()
    assert (entry.state, "device.lock cannot be written" in entry.reason) == (State.FAILED, True)
    assert "device.lock cannot be written" in capsys.readouterr().out


def test_an_error_that_nobody_expected_is_told_with_its_kind(trained, monkeypatch, tmp_path, capsys):
    trained.record.begin()
    monkeypatch.setattr(child, "_engine", lambda order: 1 / 0)
    assert child.main(trained.folder, tmp_path / "device.lock", follow=False) == 1
    assert ending(trained) == (State.FAILED, "ZeroDivisionError: division by zero (details in the log)")
    assert "Traceback" in capsys.readouterr().err


def test_a_training_that_was_asked_to_stop_in_its_last_update_compares_nothing(trained, monkeypatch, capsys):
    monkeypatch.setattr(comparison, "compare", lambda *arguments: pytest.fail("it compares"))
    trained.record.stop.ask()
    assert child._compare(trained) == 0
    assert "the comparison was stopped" in capsys.readouterr().out
    assert ending(trained) == (State.FINISHED, "done")


def test_a_comparison_that_is_stopped_is_not_called_done(trained, monkeypatch, capsys):
    def stopped(*arguments):
        raise StoppedEarlyError

    monkeypatch.setattr(comparison, "compare", stopped)
    assert child._compare(trained) == 0
    said = capsys.readouterr().out
    assert "the comparison was stopped" in said
    assert "done" not in said


@pytest.mark.parametrize("error", [ImageRewardError("no space"), RuntimeError("no space")])
def test_a_comparison_that_fails_says_why_and_leaves_the_training_finished(
    trained, monkeypatch, capsys, error
):
    def fails(*arguments):
        raise error

    monkeypatch.setattr(comparison, "compare", fails)
    assert child._compare(trained) == 1
    said = "".join(capsys.readouterr())
    assert "the comparison failed" in said
    assert "no space" in said
    assert ending(trained) == (State.FINISHED, "done")


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize(
    ("state", "lora", "compared"), [("guard", "", 0), ("guard", "x.safetensors", 1), ("failed", "", 0)]
)
def test_only_a_training_that_ends_well_with_a_lora_is_compared(
    trained, monkeypatch, tmp_path, state, lora, compared
):
    trained.record.begin(compares=True)
    seen = []

    def engine(order):
        if state == "failed":
            raise ImageRewardError("no checkpoint")
        order.record.end(State.STOPPED, "the judge fell", lora, by_guard=True)
        return SimpleNamespace(reason="the judge fell", lora=None)

    monkeypatch.setattr(child, "_engine", engine)
    monkeypatch.setattr(child, "_compare", lambda order: seen.append(order.name) or 0)
    code = child.main(trained.folder, tmp_path / "device.lock", follow=False)
    assert (code, len(seen)) == (int(state == "failed"), compared)
