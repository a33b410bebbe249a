from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from imagereward_ext.training import lock as lock_module
from imagereward_ext.training.lock import Lock, holder


def held_elsewhere(path, seconds=30):
    code = (
        "import sys, time; from pathlib import Path; from imagereward_ext.training.lock import Lock; "
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


@pytest.mark.skipif("os.name == 'nt'")
def test_a_look_needs_no_right_to_write(tmp_path):
    path = tmp_path / "lock"
    path.write_text("{}")
    opened = []
    real = Path.open

    def watched(self, mode="r", **more):
        opened.append(mode)
        return real(self, mode, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", watched)
        assert holder(path) is None
    assert opened == ["rb"], "root may write everywhere, so that a file without the right would prove nothing"


def test_looking_does_not_keep_anybody_from_taking(tmp_path):
    path = tmp_path / "lock"
    path.touch()
    for _ in range(200):
        assert holder(path) is None
    assert Lock(path).take({}, patience=0)


def test_a_look_is_not_taken_for_the_holder_by_another_look(tmp_path):
    """What a dead process wrote stands there still: its number must never be told as that of a living one."""
    path = tmp_path / "lock"
    lock = Lock(path)
    assert lock.take({"name": "dead"})
    lock.release()
    with ThreadPoolExecutor(4) as looks:
        assert set(looks.map(lambda _: str(holder(path)), range(2000))) == {"None"}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such lock here")
def test_a_look_of_another_process_is_no_holder_either(tmp_path):
    path = tmp_path / "lock"
    path.write_text('{"pid": 1}')
    with path.open("rb+") as file:
        assert lock_module._lock(file, shared=True)
        assert holder(path) is None
        assert not Lock(path).take({}, patience=0)


def test_a_lock_on_a_file_that_was_removed_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    path, lock = tmp_path / "run" / "lock", lock_module._lock

    def removed_before(file, shared=False):
        monkeypatch.setattr(lock_module, "_lock", lock)
        shutil.rmtree(path.parent)
        return lock(file, shared)

    monkeypatch.setattr(lock_module, "_lock", removed_before)
    late = Lock(path)
    assert late.take({"name": "late"})
    assert holder(path)["name"] == "late", "others see it"
    assert not Lock(path).take({}, patience=0)
