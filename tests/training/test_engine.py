"""What the engine promises to every training, on one that fits a line: equal trajectories, and nothing lost."""

from __future__ import annotations

import json
import math

import pytest
import torch

from imagereward_ext.training import engine as engine_module
from imagereward_ext.training.engine import Engine, Task, Terms, TrainingError
from imagereward_ext.training.event_log import EventLog
from imagereward_ext.training.learner import Learner, adamw
from imagereward_ext.training.processes import Processes
from imagereward_ext.training.randomness import stream
from imagereward_ext.training.record import StopFile
from imagereward_ext.training.states import RunError, SavedState, States
from imagereward_ext.training.stopping import StopRequest


class Line(Task):
    """Fit y = 2 x + 1 to points that follow from the seed; with two steps in an update, as ReFL may have."""

    samples, memory_advice = "points", "take fewer"

    def __init__(self, updates=6, micro_batch=4, save_every=100, check_every=100, two_steps=False):
        self.updates, self.micro_batch, self.save_every = updates, micro_batch, save_every
        self.check_every, self.two_steps = check_every, two_steps
        self.weights = torch.nn.Parameter(torch.zeros(2))
        self.checks: list[float] = []
        self.factor = 1.0
        self.largest = math.inf

    def update(self, step, optimise):
        def distance(samples):
            if len(samples) > self.largest:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            x = torch.stack([torch.randn((), generator=stream(0, step, j)) for j in samples])
            squared = (self.weights[0] * x + self.weights[1] - (2 * x + 1)).pow(2)
            terms = Terms(torch.zeros_like(squared))
            terms.add("distance", squared, self.factor)
            return terms

        def size(samples):
            return Terms(1e-3 * self.weights.pow(2).sum().expand(len(samples)))

        if self.two_steps:
            optimise(size, 4)
        return optimise(distance, 4)

    def learning_rate(self, step):
        return 0.1 / (1 + step)

    def checks_after(self, step):
        return step % self.check_every == 0

    def check(self, step):
        self.checks.append(float(self.weights.detach()[0]))

    def best_step(self):
        return 0

    def progress(self):
        return {"checks": self.checks}

    def restore(self, progress):
        self.checks = [float(check) for check in progress["checks"]]


def make(folder, listener=None, **settings):
    folder.mkdir(exist_ok=True)
    task = Line(**settings)
    learner = Learner(adamw([task.weights], 0.1, 0.01), clip=1.0)
    log = EventLog(folder / "events.jsonl", listener)
    return Engine(task, learner, Processes(cpu=True), States(folder / "states"), log)


def run(engine):
    return engine.run(StopRequest(StopFile(engine.states.folder.parent / "stop")))


def trained(folder, **settings):
    engine = make(folder, **settings)
    assert run(engine).kind == "finished"
    return engine.task.weights.detach()


def notes(engine):
    return [event["text"] for event in engine.log.journal.read() if event["kind"] == "note"]


@pytest.fixture
def whole(tmp_path):
    weights = trained(tmp_path / "whole")
    assert (weights > 0.1).all()
    return weights


def stop_after(folder, step):
    def listen(event):
        if event["kind"] == "update" and event["step"] == step:
            (folder / "stop").touch()

    return listen


@pytest.mark.parametrize("micro_batch", [1, 2, 3])
def test_accumulated_micro_batches_are_one_batch(whole, tmp_path, micro_batch):
    torch.testing.assert_close(trained(tmp_path / "parts", micro_batch=micro_batch), whole)


@pytest.mark.parametrize("two_steps", [False, True])
@pytest.mark.parametrize("cut", [1, 4])
def test_a_resumed_run_ends_with_the_same_weights(tmp_path, cut, two_steps):
    whole = trained(tmp_path / "whole", two_steps=two_steps)
    first = make(tmp_path / "cut", stop_after(tmp_path / "cut", cut), two_steps=two_steps)
    ending = run(first)
    assert (ending.kind, ending.step) == ("asked", cut)
    (tmp_path / "cut" / "stop").unlink()
    second = make(tmp_path / "cut", two_steps=two_steps)
    second.restore()
    assert run(second).step == 6
    assert torch.equal(second.task.weights, whole)
    assert second.task.checks[0] == 0, "the checks so far are known again"
    updates = [event for event in second.log.journal.read() if event["kind"] == "update"]
    assert [(event["step"], event["of"]) for event in updates] == [(step, 6) for step in range(1, 7)]
    assert updates[2]["lr"] == pytest.approx(0.1 / 3)


def test_running_out_of_memory_halves_once_and_changes_nothing(whole, tmp_path):
    engine = make(tmp_path / "short")
    engine.task.largest = 2
    run(engine)
    torch.testing.assert_close(engine.task.weights.detach(), whole)
    assert notes(engine) == ["out of memory: trying again with 2 points at a time"]
    engine = make(tmp_path / "never")
    engine.task.largest = 0
    with pytest.raises(TrainingError, match="out of memory with 2 points at a time: take fewer"):
        run(engine)


def test_a_state_is_written_when_long_none_was(tmp_path, monkeypatch):
    monkeypatch.setattr(engine_module, "SAVE_AFTER_SECONDS", 0.0)
    engine = make(tmp_path, stop_after(tmp_path, 4))
    kept = []
    engine.task.after_update = lambda step, figures: kept.append(engine.states.steps()[-1])
    run(engine)
    assert kept == [1, 2, 3, 4]


def test_a_loss_that_is_no_number_keeps_the_state_before_it(tmp_path):
    engine = make(tmp_path, two_steps=False)
    engine.task.after_update = lambda step, figures: setattr(
        engine.task, "factor", math.nan if step == 2 else 1
    )
    with pytest.raises(
        TrainingError,
        match=r"stopped at update 3: the loss is not finite.*Lower the learning rate, or train in fp32 or bf16",
    ):
        run(engine)
    assert engine.states.steps() == [0, 2]


def test_weights_between_two_steps_of_an_update_are_no_state(tmp_path):
    engine = make(tmp_path, two_steps=True)
    engine.task.after_update = lambda step, figures: setattr(
        engine.task, "factor", math.nan if step == 2 else 1
    )
    with pytest.raises(TrainingError, match="stopped at update 3"):
        run(engine)
    assert engine.states.steps() == [0]


# ------------------------------------------------------------------------------------------------------ states


def interrupted(folder):
    """Train four of six updates, a state after each."""
    run(make(folder, stop_after(folder, 4), save_every=1))
    (folder / "stop").unlink()
    return make(folder, save_every=1)


def test_the_newest_two_states_and_the_best_stay(tmp_path):
    assert interrupted(tmp_path / "run").states.steps() == [0, 3, 4]


@pytest.mark.parametrize("file", ["learner.pt", "state.json"])
@pytest.mark.parametrize("damage", ["empty", "cut", "gone", "foreign"])
def test_a_damaged_newest_state_is_skipped_for_the_one_before(whole, tmp_path, file, damage):
    engine = interrupted(tmp_path / "run")
    path = engine.states.path(4) / file
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "foreign": b"[]"}.get(damage, b""))
    if damage == "gone":
        path.unlink()
    engine.restore()
    assert engine.step == 3
    (skipped,) = [note for note in notes(engine) if "skipped" in note]
    assert str(engine.states.path(4)) in skipped
    assert f"{file} is damaged" in skipped
    assert "weights_only" not in skipped
    run(engine)
    assert torch.equal(engine.task.weights, whole)
    assert engine.states.steps() == [0, 5, 6], "the step is written again when the run comes to it"
    assert make(tmp_path / "run").states.read(6).step == 6


def test_progress_that_the_task_does_not_know_counts_as_damaged(tmp_path):
    engine = interrupted(tmp_path / "run")
    (engine.states.path(4) / "state.json").write_text(json.dumps({"step": 4, "checks": None}))
    engine.restore()
    assert (engine.step, engine.task.checks[0]) == (3, 0)


def test_without_a_whole_state_the_run_says_what_to_do(tmp_path):
    engine = interrupted(tmp_path / "run")
    for step in engine.states.steps():
        (engine.states.path(step) / "learner.pt").write_bytes(b"")
    with pytest.raises(
        RunError, match=r"step-000004 cannot be read: learner.pt is damaged, and no other one is whole"
    ) as e:
        engine.restore()
    assert f"remove {engine.states.folder} to begin the run again" in str(e.value)
    assert "\n" not in str(e.value)
    assert engine.states.steps() == [0, 3, 4], "nothing was moved away"


def test_weights_alone_are_nothing_to_go_on_from(tmp_path):
    engine = make(tmp_path)
    engine.states.write(SavedState(3, [torch.ones(2)], None, {}, {"checks": []}))
    with pytest.raises(RunError, match="holds weights and nothing else"):
        engine.restore()


def test_a_state_of_another_run_is_refused(tmp_path):
    engine = make(tmp_path)
    engine.states.write(
        SavedState(3, [torch.ones(5)], engine.learner.optimiser.state_dict(), {}, {"checks": []})
    )
    with pytest.raises(RunError, match="weights of other shapes"):
        engine.restore()
