"""What a run's folder tells, without a training."""

from __future__ import annotations

import json

import pytest

from imagereward_ext.jobs import runs
from imagereward_ext.jobs.child import OUTCOME, RUN_LOCK
from imagereward_ext.jobs.lock import Lock
from imagereward_ext.jobs.order import Order


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
