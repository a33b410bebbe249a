"""The record of a run: what is written is true, whoever looks."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from imagereward_ext.training.journal import Journal
from imagereward_ext.training.lock import Lock
from imagereward_ext.training.record import AT_WORK, RecordError, RunRecord, State


@pytest.fixture
def record(tmp_path):
    return RunRecord(tmp_path / "run")


@pytest.fixture
def at_work(record):
    """Hold the run, as the process that trains does."""
    record.folder.mkdir()
    lock = Lock(record.process_lock)
    assert lock.take({})
    yield lock
    lock.release()


def states(record):
    return [line["state"] for line in record.journal.read()]


def test_nobody_has_written_anything(record):
    assert record.read() is None
    assert not record.folder.exists()


@pytest.mark.usefixtures("at_work")
def test_a_run_from_the_queue_to_its_end(record):
    record.wait()
    assert record.read().state is State.WAITING
    record.begin(compares=True)
    assert (record.read().state, record.read().start) == (State.PREPARING, 1)
    record.write(State.TRAINING)
    record.end(State.FINISHED, "all 3 updates are done", "run-000003.safetensors")
    comparing = record.read()
    assert (comparing.state, comparing.lora) == (State.COMPARING, "run-000003.safetensors")
    record.end_comparison()
    end = record.read()
    assert (end.state, end.reason, end.start) == (State.FINISHED, "all 3 updates are done", 1)
    assert states(record) == ["waiting", "preparing", "training", "finished", "comparing", "finished"]


@pytest.mark.parametrize(
    ("state", "lora", "by_guard", "compares", "then"),
    [
        (State.FINISHED, "a.safetensors", False, True, State.COMPARING),
        (State.STOPPED, "a.safetensors", True, True, State.COMPARING),
        (State.FINISHED, "", False, True, State.FINISHED),
        (State.STOPPED, "a.safetensors", False, True, State.STOPPED),
        (State.FINISHED, "a.safetensors", False, False, State.FINISHED),
    ],
)
@pytest.mark.usefixtures("at_work")
def test_only_a_training_that_ends_well_is_compared(record, state, lora, by_guard, compares, then):
    record.begin(compares=compares)
    record.end(state, "done", lora, by_guard)
    assert record.read().state is then


@pytest.mark.parametrize("state", AT_WORK[:2])
def test_a_process_that_ends_without_a_word_is_lost(record, at_work, state):
    record.begin()
    record.write(state)
    assert record.read().state is state
    at_work.release()
    assert record.read().state is State.LOST
    assert states(record)[-1] == state, "the journal says what was written, the lock says the rest"


def test_the_lock_of_a_killed_process_tells(record):
    code = (
        "import sys, time; from pathlib import Path; from imagereward_ext.training.lock import Lock\n"
        "from imagereward_ext.training.record import RunRecord, State\n"
        "record = RunRecord(Path(sys.argv[1])); lock = Lock(record.process_lock); lock.take({})\n"
        "record.begin(); record.write(State.TRAINING); print('at work', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(record.folder)], stdout=subprocess.PIPE)
    assert process.stdout.readline().strip() == b"at work"
    assert (record.read().state, record.process()) == (State.TRAINING, process.pid)
    process.kill()
    process.wait()
    assert (record.read().state, record.process()) == (State.LOST, None)


def test_the_queue_vouches_for_a_process_that_has_not_begun(record):
    record.begin()
    assert record.read().state is State.LOST
    queue = Lock(record.queue_lock)
    assert queue.take({})
    assert record.read().state is State.PREPARING
    queue.release()


def test_a_comparison_never_changes_how_the_training_ended(record, at_work):
    record.begin()
    record.end(State.STOPPED, "the judge fell", "run-000003.safetensors", by_guard=True)
    for how in ("taken out of the queue", "killed"):
        record.wait(to_compare=True)
        assert (record.read().state, record.read().lora) == (State.WAITING, "run-000003.safetensors")
        if how == "killed":
            record.begin(to_compare=True)
            assert record.read().state is State.COMPARING
            at_work.release()
        else:
            record.end_comparison()
        end = record.read()
        assert (end.state, end.reason, end.by_guard) == (State.STOPPED, "the judge fell", True)


def test_a_start_that_trained_nothing_leaves_the_lora_of_the_one_before(record):
    record.begin()
    record.end(State.STOPPED, "asked", "run-000003.safetensors")
    record.wait()
    record.give_up(State.STOPPED, "taken out of the queue")
    assert record.read().lora == "run-000003.safetensors"
    assert record.read().start == 1


def test_a_process_that_is_lost_leaves_the_lora_of_the_start_before(record, at_work):
    record.begin()
    record.end(State.STOPPED, "asked", "run-000003.safetensors")
    record.begin()
    record.write(State.TRAINING)
    at_work.release()
    assert (record.read().state, record.read().lora) == (State.LOST, "run-000003.safetensors")


def test_a_request_to_stop_is_for_one_start(record):
    record.wait()
    assert not record.stop.asked()
    record.stop.ask()
    assert record.stop.asked()
    record.begin()
    assert not record.stop.asked()


def test_a_record_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "run").write_text("a file, no folder")
    with pytest.raises(RecordError, match=r"the record of the run run cannot be written: "):
        RunRecord(tmp_path / "run").write(State.TRAINING)


def test_lines_of_others_are_passed_over(record):
    record.wait()
    with record.journal.path.open("a") as file:
        file.write(
            '[1]\n{"state": "dreaming"}\n{"state": "failed", "start": "x"}\n{"state": ["failed"]}\n{"sta'
        )
    assert record.read().state is State.WAITING
    record.begin()
    assert states(record)[-1] == "preparing"


# ---- folders of the version before, which wrote order.json, outcome.json and events.jsonl


def before(record, order=None, outcome=None, events=(), config=True):
    record.folder.mkdir(exist_ok=True)
    for name, content in (
        ("order", order),
        ("outcome", outcome),
        ("config", {"config": {}} if config else None),
    ):
        if content is not None:
            (record.folder / f"{name}.json").write_text(json.dumps(content))
    Journal(record.folder / "events.jsonl").append(*events)


ORDER = {"config": {}, "waiting": False, "starts": 2, "queued_at": 5.0}
END = {
    "kind": "end",
    "step": 3,
    "ending": "finished",
    "reason": "all 3 updates are done",
    "lora": "run-3.safetensors",
}


@pytest.mark.parametrize(
    ("left", "state", "start"),
    [
        ({"order": ORDER | {"waiting": True}, "config": False}, State.WAITING, 2),
        ({"order": ORDER, "outcome": END}, State.FINISHED, 2),
        ({"order": ORDER, "outcome": END | {"ending": "asked"}}, State.STOPPED, 2),
        ({"order": ORDER, "outcome": END | {"ending": "guard"}}, State.STOPPED, 2),
        ({"order": ORDER, "outcome": {"ending": "failed", "reason": "no"}}, State.FAILED, 2),
        ({"order": ORDER, "outcome": {"ending": "killed", "reason": "signal 9"}}, State.LOST, 2),
        ({"order": ORDER, "events": [{"kind": "update", "step": 1}]}, State.LOST, 2),
        ({"events": [END]}, State.FINISHED, 1),
        ({"events": [END, {"kind": "update", "step": 4}]}, State.LOST, 1),
    ],
)  # fmt: skip
def test_a_folder_without_a_journal_is_understood_and_goes_on(record, left, state, start):
    before(record, **left)
    shown = record.read()
    assert (shown.state, shown.start) == (state, start)
    assert not record.journal.path.exists(), "looking writes nothing"
    record.begin()
    assert states(record) == [
        shown.state if state is not State.LOST or "outcome" in left else "training",
        "preparing",
    ]
    assert record.read().start == start + 1


def test_a_journal_whose_first_line_was_cut_off_hides_nothing_of_the_version_before(record):
    before(record, ORDER, END)
    record.journal.path.write_text('{"state": "prep')  # a full disk
    record.begin()
    assert states(record) == ["finished", "preparing"]
    assert (record.read().start, record.read().lora) == (3, "run-3.safetensors")


def test_the_ending_of_a_folder_without_a_journal_is_whole(record):
    before(record, ORDER, END | {"ending": "guard", "reason": "the judge fell"})
    end = record.read()
    assert (end.reason, end.lora, end.by_guard) == ("the judge fell", "run-3.safetensors", True)


def test_a_process_of_the_version_before_is_seen_at_work(record):
    before(record, ORDER)
    lock = Lock(record.process_lock)
    assert lock.take({})
    assert record.read().state is State.TRAINING
    lock.release()
    assert record.read().state is State.LOST
