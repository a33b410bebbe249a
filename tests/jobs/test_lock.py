from __future__ import annotations

import subprocess
import sys
import time

from imagereward_ext.jobs.lock import Lock, holder


def held_elsewhere(path, seconds=30):
    code = (
        "import sys, time; from pathlib import Path; from imagereward_ext.jobs.lock import Lock; "
        "lock = Lock(Path(sys.argv[1])); print('taken' if lock.take({'name': 'x'}) else 'refused', flush=True); "
        f"time.sleep({seconds})"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "taken"
    return process


def test_a_lock_is_exclusive_says_who_has_it_and_can_be_given_back(tmp_path):
    path = tmp_path / "deep" / "lock"
    assert holder(path) is None
    first = Lock(path)
    assert first.take({"name": "run"})
    assert holder(path)["name"] == "run"
    assert not Lock(path).take({}, patience=0.2)
    assert holder(path)["name"] == "run", "a refused attempt must not overwrite who has it"
    first.release()
    assert holder(path) is None
    assert Lock(path).take({})


def test_a_lock_dies_with_its_process(tmp_path):
    path = tmp_path / "lock"
    process = held_elsewhere(path)
    assert holder(path)["pid"] == process.pid
    assert not Lock(path).take({}, patience=0)
    process.kill()
    process.wait()
    assert holder(path) is None
    assert path.exists(), "what the dead one wrote is still there, and counts for nothing"
    assert Lock(path).take({})


def test_looking_does_not_keep_anybody_from_taking(tmp_path):
    path = tmp_path / "lock"
    path.touch()
    for _ in range(200):
        assert holder(path) is None
    started = time.monotonic()
    assert Lock(path).take({})
    assert time.monotonic() - started < 1
