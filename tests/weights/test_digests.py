"""A digest is computed from the weights; it is remembered for the file that was hashed and for no other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from imagereward_ext.weights import digests, tensors
from imagereward_ext.weights.tensors import digest, open_tensors, save_tensors

WEIGHTS = {"a": torch.arange(6.0), "b": torch.ones(2)}
NONE = {name: torch.zeros_like(tensor) for name, tensor in WEIGHTS.items()}


pytestmark = pytest.mark.usefixtures("no_digest_known")


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count what is hashed."""
    calls: list[int] = []
    monkeypatch.setattr(tensors, "digest", lambda given: calls.append(len(given)) or digest(given))
    return calls


def test_what_a_file_says_of_itself_is_not_believed(tmp_path: Path) -> None:
    save_tensors(tmp_path / "m.safetensors", NONE, {"imagereward_digest": digest(WEIGHTS)})
    assert open_tensors(tmp_path / "m.safetensors").digest(NONE) == digest(NONE)


def test_a_file_is_hashed_once_in_this_process_and_in_the_next(
    tmp_path: Path, hashed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tensors(tmp_path / "m.safetensors", WEIGHTS)
    hashed.clear()
    for _ in range(2):
        assert open_tensors(tmp_path / "m.safetensors").digest(WEIGHTS) == digest(WEIGHTS)
    monkeypatch.setattr(digests, "_known", {})  # another process
    assert open_tensors(tmp_path / "m.safetensors").digest(WEIGHTS) == digest(WEIGHTS)
    assert hashed == [2]
    assert open_tensors(tmp_path / "m.safetensors").digest(["a"]) == digest({"a": WEIGHTS["a"]})
    assert hashed == [2, 1]


@pytest.mark.parametrize("how", ["written over", "put in its place"])
def test_other_weights_of_the_same_size_and_date_are_hashed_anew(tmp_path: Path, how: str) -> None:
    path, other = tmp_path / "m.safetensors", tmp_path / "other.safetensors"
    save_tensors(path, WEIGHTS)
    save_tensors(other, NONE)
    assert open_tensors(path).digest(WEIGHTS) == digest(WEIGHTS)
    date = path.stat().st_mtime_ns
    os.utime(other, ns=(date, date))
    if how == "written over":
        path.write_bytes(other.read_bytes())
        os.utime(path, ns=(date, date))
    else:
        other.replace(path)
    assert path.stat().st_mtime_ns == date
    assert open_tensors(path).digest(WEIGHTS) == digest(NONE)


def test_the_notes_lie_in_the_users_own_cache_and_a_broken_file_of_them_is_none(
    tmp_path: Path, hashed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tensors(tmp_path / "m.safetensors", WEIGHTS)
    open_tensors(tmp_path / "m.safetensors").digest(WEIGHTS)
    notes = tmp_path / "cache" / "imagereward" / "digests.json"
    assert digest(WEIGHTS) in notes.read_text()
    for broken in ("", "[", "[" * 100_000, '{"a": 1}', "[]", "x" * 2**21):
        notes.write_text(broken)
        monkeypatch.setattr(digests, "_known", {})
        assert open_tensors(tmp_path / "m.safetensors").digest(WEIGHTS) == digest(WEIGHTS)


def test_without_a_place_for_notes_it_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file is in the way")
    save_tensors(tmp_path / "m.safetensors", WEIGHTS)
    assert open_tensors(tmp_path / "m.safetensors").digest(WEIGHTS) == digest(WEIGHTS)


def test_what_another_process_notes_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hash_slowly(given):
        digests._write({**digests._read(), "of another process": "0123456789"})
        return digest(given)

    save_tensors(tmp_path / "m.safetensors", WEIGHTS)
    monkeypatch.setattr(tensors, "digest", hash_slowly)
    open_tensors(tmp_path / "m.safetensors").digest(WEIGHTS)
    assert list(digests._read().values()) == ["0123456789", digest(WEIGHTS)]


def test_old_notes_give_way_to_new_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "_MOST_NOTES", 2)
    for count in range(4):
        save_tensors(tmp_path / f"{count}.safetensors", WEIGHTS)
        open_tensors(tmp_path / f"{count}.safetensors").digest(WEIGHTS)
    assert len(digests._read()) == 2
