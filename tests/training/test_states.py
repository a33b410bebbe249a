"""States on a disk that is full, in memory that is not there, and in as little of it as can be."""

from __future__ import annotations

import errno
import tracemalloc
from pathlib import Path

import pytest
import torch

from imagereward_ext.training import states as states_module
from imagereward_ext.training.states import DamagedStateError, RunError, SavedState, States

FULL = Path("/dev/full")


def state(step, numbers=16):
    return SavedState(step, [torch.arange(float(numbers))], {"state": {}}, {}, {"checks": []})


@pytest.fixture
def states(tmp_path):
    return States(tmp_path / "states")


def test_a_state_comes_back_as_it_was(states):
    states.write(state(3))
    found = states.read(3)
    assert torch.equal(found.parameters[0], torch.arange(16.0))
    assert (found.step, found.optimiser, found.progress) == (3, {"state": {}}, {"checks": []})


def test_writing_takes_no_memory_of_the_size_of_a_state(states):
    large = state(1, 4_000_000)  # 16 MB
    tracemalloc.start()
    states.write(large)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.skipif(not FULL.exists(), reason="this system has no full disk to try")
@pytest.mark.parametrize("numbers", [16, 1_000_000])  # found out on closing, and in the middle
def test_a_full_disk_is_told_and_leaves_the_states_before(states, monkeypatch, numbers):
    states.write(state(1))
    monkeypatch.setattr(states_module, "TENSORS", str(FULL))
    with pytest.raises(RunError, match="no space is left to write the state of step 2"):
        states.write(state(2, numbers))
    assert [path.name for path in states.folder.iterdir()] == ["step-000001"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), "out of memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "out of memory"),
        (PermissionError(errno.EACCES, "Permission denied"), "learner.pt: Permission denied"),
        (OSError(errno.ESTALE, "Stale file handle"), "learner.pt: Stale file handle"),
    ],
)
def test_what_may_be_over_in_a_minute_is_not_called_damage(states, monkeypatch, error, told):
    states.write(state(3))

    def fails(path):
        raise error

    monkeypatch.setattr(states_module, "read_all", fails)
    with pytest.raises(RunError, match=told) as refusal:
        states.read(3)
    assert not isinstance(refusal.value, DamagedStateError)


def test_a_bad_block_is_damage(states, monkeypatch):
    states.write(state(3))

    def fails(path):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(states_module, "read_all", fails)
    with pytest.raises(DamagedStateError, match=r"learner.pt is damaged"):
        states.read(3)
