"""What a run's folder tells, without a training."""

from __future__ import annotations

import json

import pytest

from imagereward_ext.jobs import runs
from imagereward_ext.jobs.child import OUTCOME, RUN_LOCK
from imagereward_ext.jobs.order import Order
from imagereward_ext.training.lock import Lock


@pytest.mark.parametrize(
    ("compare", "ending", "state"),
    [
        (2, "finished", runs.COMPARING),
        (2, "guard", runs.COMPARING),
        (2, "failed", runs.RUNNING),
        (0, "finished", runs.RUNNING),
    ],
)
@pytest.mark.parametrize("lora", ["run-000003.safetensors", ""])
def test_a_process_that_only_has_to_end_compares_nothing(tmp_path, compare, ending, state, lora):
    order = Order({"name": "run", "output": str(tmp_path)}, compare=compare, waiting=False)
    order.write()
    (order.folder / "events.jsonl").touch()
    (order.folder / OUTCOME).write_text(json.dumps({"ending": ending, "reason": "done", "lora": lora}))
    lock = Lock(order.folder / RUN_LOCK)
    assert lock.take({"name": "run"})
    assert runs.read_run(order.folder).state == (state if lora else runs.RUNNING)
    lock.release()
    assert runs.read_run(order.folder).state not in runs.ALIVE


def test_the_checks_of_a_long_run_are_all_read(tmp_path):
    """Its events are more than one answer holds."""
    note = {"kind": "note", "text": 'no "check" but ' + "x" * 1000}
    lines = [{"kind": "check", "step": 0}, *[note] * 5000, {"kind": "check", "step": 10}]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert runs.read_events(tmp_path, 0).events[-1] == note
    assert [check["step"] for check in runs.read_checks(tmp_path)] == [0, 10]
    assert runs.read_checks(tmp_path / "none") == []
