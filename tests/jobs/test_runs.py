"""What a run's folder tells, without a training."""

from __future__ import annotations

import json

import pytest

from imagereward_ext.jobs import runs
from imagereward_ext.jobs.order import JobError, Order
from imagereward_ext.jobs.runs import Runs
from imagereward_ext.training import journal
from imagereward_ext.training.journal import Journal
from imagereward_ext.training.lock import Lock
from imagereward_ext.training.record import RunRecord, State


@pytest.fixture
def order(tmp_path):
    order = Order({"name": "run", "output": str(tmp_path), "updates": 5})
    order.write()
    return order


@pytest.mark.parametrize(
    ("state", "more", "asked", "shown"),
    [
        (State.WAITING, {}, False, "waiting"),
        (State.PREPARING, {}, False, "starting"),
        (State.TRAINING, {}, False, "running"),
        (State.TRAINING, {}, True, "stopping"),
        (State.COMPARING, {}, False, "comparing"),
        (State.FINISHED, {}, True, "finished"),
        (State.STOPPED, {}, False, "stopped"),
        (State.STOPPED, {"by_guard": True}, False, "stopped by the guard"),
        (State.FAILED, {}, False, "failed"),
        (State.LOST, {}, False, "killed"),
    ],
)
def test_states_are_shown_by_the_words_that_pages_and_clients_know(order, state, more, asked, shown):
    lock = Lock(order.record.process_lock)
    assert lock.take({})
    order.record.journal.append({"state": state, **more})
    if asked:
        order.record.stop.ask()
    run = runs.read_run(order.folder)
    assert run.state == shown
    assert (run.state in runs.ALIVE) == (run.pid is not None)
    lock.release()


def test_the_checks_of_a_long_run_are_all_read(tmp_path):
    """Its events are more than one answer holds."""
    note = {"kind": "note", "text": 'no "check" but ' + "x" * 1000}
    Journal(tmp_path / "events.jsonl").append(
        {"kind": "check", "step": 0}, *[note] * 5000, {"kind": "check", "step": 10}
    )
    assert runs.read_events(tmp_path, 0).objects[-1] == note
    checks = runs.Checks()
    assert [check["step"] for check in checks.read(tmp_path, 1)] == [0, 10]
    Journal(tmp_path / "events.jsonl").append({"kind": "check", "step": 20}, note)
    assert [check["step"] for check in checks.read(tmp_path, 1)] == [0, 10, 20]
    assert checks.read(tmp_path / "none", 1) == ()
    assert [check["step"] for check in checks.read(tmp_path, 1)] == [0, 10, 20]


def test_a_resumed_run_has_only_the_checks_it_kept(tmp_path):
    events, checks = tmp_path / "events.jsonl", runs.Checks()
    Journal(events).append({"kind": "check", "step": 0}, {"kind": "check", "step": 10})
    assert len(checks.read(tmp_path, 1)) == 2
    events.write_text('{"kind": "check", "step": 0}\n')
    assert [check["step"] for check in checks.read(tmp_path, 1)] == [0]
    events.write_text('{"kind": "check", "step": 5}\n{"kind": "check", "step": 7}\n')
    assert [check["step"] for check in checks.read(tmp_path, 2)] == [5, 7]


HOSTILE = ["[1]", "3", "[" * 10_000, '{"kind": "update", "step": "many", "seconds": [], "memory": {}}', '{"kind": []}',
           '{"kind": "update", "step": 1e999}', "{"]  # fmt: skip


@pytest.mark.parametrize("line", HOSTILE)
def test_lines_that_are_no_events_are_passed_over(order, line):
    (order.folder / "events.jsonl").write_text(f'{{"kind": "update", "step": 2, "seconds": 0.5}}\n{line}\n')
    run = runs.read_run(order.folder)
    assert run.step == 2
    assert json.dumps([run.__dict__, runs.read_events(order.folder, 0).objects], allow_nan=False)
    assert runs.Checks().read(order.folder, 1) == ()


@pytest.mark.parametrize(
    "content", ["[" * 100_000, "[]", "3", "{", '{"config": []}', '{"config": {"updates": "x"}}', "\x00"]
)
@pytest.mark.parametrize("name", ["order.json", "config.json", "outcome.json"])
def test_files_that_are_none_of_ours_are_passed_over(order, name, content):
    (order.folder / name).write_text(content)
    assert [run.name for run in Runs(order.folder.parent).list()] == ["run"]
    runs.training_prompts(order.folder)


def test_an_order_is_for_the_folder_it_lies_in(order, tmp_path):
    """Somebody who has moved the WebUI, or renamed a run, must not have another one trained."""
    moved = tmp_path / "elsewhere" / "renamed"
    moved.parent.mkdir()
    order.folder.rename(moved)
    found = runs.read_order(moved)
    assert found is not None
    assert (found.name, found.folder) == ("renamed", moved)


def test_a_run_of_the_version_before_is_listed_and_goes_on(tmp_path):
    folder = tmp_path / "old"
    (folder / "states" / "step-000002").mkdir(parents=True)
    (folder / "old-000002.safetensors").touch()
    config = {"name": "old", "output": str(tmp_path), "updates": 4}
    order = {
        "config": config,
        "resume": False,
        "device": "cpu",
        "queued_at": 1.0,
        "starts": 2,
        "waiting": False,
    }
    outcome = {
        "ending": "asked",
        "reason": "asked to stop after update 2",
        "step": 2,
        "lora": "old-000002.safetensors",
    }
    for name, content in (("order", order), ("outcome", outcome), ("config", {"config": config})):
        (folder / f"{name}.json").write_text(json.dumps(content))
    Journal(folder / "events.jsonl").append({"kind": "update", "step": 2, "seconds": 0.5, "memory": 1.0})
    [run] = Runs(tmp_path).list()
    assert (run.state, run.reason, run.lora) == ("stopped", outcome["reason"], "old-000002")
    assert (run.step, run.updates, run.starts, run.resumable) == (2, 4, 2, True)
    known = runs.read_order(folder)
    assert known is not None
    assert (known.device, known.name) == ("cpu", "old")


def test_a_look_at_a_run_parses_no_more_than_it_shows(order, monkeypatch):
    events = [{"kind": "update", "step": step, "seconds": 0.5} for step in range(500)]
    Journal(order.folder / "events.jsonl").append(*events, {"kind": "check", "step": 499})
    parsed = []
    loads = json.loads
    monkeypatch.setattr(journal.json, "loads", lambda line, **how: parsed.append(line) or loads(line, **how))
    run = runs.read_run(order.folder)
    assert (run.step, run.seconds) == (499, 0.5)
    assert len([line for line in parsed if "step" in str(line)]) == 2


def test_a_run_whose_process_only_has_to_end_is_not_deleted(order):
    lock = Lock(order.record.queue_lock)
    assert lock.take({})
    order.record.journal.append({"state": "finished"})
    with pytest.raises(JobError, match="is still ending: delete it in a moment"):
        Runs(order.folder.parent).delete("run")
    lock.release()
    Runs(order.folder.parent).delete("run")
    assert RunRecord(order.folder).read() is None
