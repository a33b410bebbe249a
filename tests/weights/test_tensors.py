"""Weight files: opened safely, checked before use, converted once, never lost."""

from __future__ import annotations

import errno
import os
import pickle
import random
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from imagereward_ext.errors import WeightsError
from imagereward_ext.weights import tensors
from imagereward_ext.weights.tensors import (
    BrokenWeightsError,
    TensorFile,
    check,
    convert,
    digest,
    is_copy,
    open_tensors,
    save_tensors,
    set_aside,
)

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(7.0), "h": torch.ones(2).half()}


@pytest.fixture(params=["model.safetensors", "model.pt"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    if path.suffix == ".pt":
        torch.save(WEIGHTS, path)
    else:
        save_tensors(path, WEIGHTS)
    return path


def test_opens_by_name(file: Path) -> None:
    opened = open_tensors(file)
    assert opened.shapes == {"a.weight": (2, 3), "b": (), "h": (2,)}
    assert torch.equal(opened["a.weight"], WEIGHTS["a.weight"])
    assert opened["h"].dtype == torch.float16
    assert opened.digest(WEIGHTS) == digest(WEIGHTS)


def test_a_pickle_may_hold_its_tensors_one_level_down(tmp_path: Path) -> None:
    torch.save({"state_dict": WEIGHTS, "epoch": 3}, tmp_path / "m.ckpt")
    assert set(open_tensors(tmp_path / "m.ckpt").shapes) == set(WEIGHTS)


def test_an_old_pickle_that_is_no_zip_opens_too(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(open_tensors(tmp_path / "old.pth")["a.weight"], WEIGHTS["a.weight"])


@pytest.mark.parametrize("keep", [0.5, 0.98])
def test_a_truncated_file_is_named(file: Path, keep: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(BrokenWeightsError, match=rf"{file.name} cannot be read: it is cut off"):
        open_tensors(file)


NOISE = [random.Random(seed).randbytes(1000) for seed in range(60)]


@pytest.mark.parametrize("content", [b"<html>404</html>", b"\0" * 100, b"0", b"h\0.", *NOISE])
def test_a_file_of_anything_else_is_named(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(WeightsError, match=file.name):
        open_tensors(file)


def test_empty_and_absent_files_are_named(file: Path) -> None:
    file.write_bytes(b"")
    with pytest.raises(BrokenWeightsError, match="it is empty"):
        open_tensors(file)
    with pytest.raises(WeightsError, match="absent.pt does not exist"):
        open_tensors(file.with_name("absent.pt"))


class Attack:
    def __reduce__(self):
        return os.system, ("echo pwned > pwned",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_wants_to_run_code_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pt"
    if zipped:
        torch.save({"a": Attack()}, path)
    else:
        path.write_bytes(pickle.dumps(Attack(), protocol=2))
    with pytest.raises(WeightsError, match="evil.pt"):
        open_tensors(path)
    assert not (tmp_path / "pwned").exists()
    assert path.exists()


def test_a_foreign_file_is_told_apart_from_an_incomplete_one(file: Path) -> None:
    opened = open_tensors(file)
    check(opened, {"a.weight": (2, 3)}, "a test model")
    with pytest.raises(
        WeightsError, match="holds another model, not a test model: none of the 2 .* begins with a.weight"
    ):
        check(opened, {"x": (1,), "y": (2,)}, "a test model")
    with pytest.raises(WeightsError, match=r"x is missing; a.weight is 2 x 3 instead of 3 x 2"):
        check(opened, {"a.weight": (3, 2), "x": (1,), "b": ()}, "a test model")


def test_converting_keeps_values_and_digest(tmp_path: Path) -> None:
    torch.save({**WEIGHTS, "unused": torch.zeros(9)}, tmp_path / "m.pt")
    original = open_tensors(tmp_path / "m.pt")
    copy = convert(original, WEIGHTS, tmp_path / "m.safetensors")
    assert copy.path.name == "m.safetensors"
    assert set(copy.shapes) == set(WEIGHTS)
    assert all(torch.equal(copy[name], value) for name, value in WEIGHTS.items())
    assert copy.digest(WEIGHTS) == original.digest(WEIGHTS) == digest(WEIGHTS)


def test_converting_reads_each_tensor_twice_and_hashes_none(tmp_path: Path) -> None:
    """Once for its type and shape, which the format wants first, and once for its numbers."""
    reads: list[str] = []
    file = TensorFile(
        tmp_path / "m.pt",
        {name: tuple(tensor.shape) for name, tensor in WEIGHTS.items()},
        lambda name: reads.append(name) or WEIGHTS[name],  # type: ignore[func-returns-value]
        {},
    )
    convert(file, WEIGHTS, tmp_path / "m.safetensors")
    assert sorted(reads) == sorted([*WEIGHTS, *WEIGHTS])


def test_numbers_of_a_type_that_no_scorer_computes_with_are_named(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2), "c": torch.ones(2, dtype=torch.complex64)}, tmp_path / "m.pt")
    with pytest.raises(WeightsError, match=r"m.pt cannot be converted: c holds torch.complex64, which no"):
        convert(open_tensors(tmp_path / "m.pt"), ["a", "c"], tmp_path / "m.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt"]


def test_only_a_copy_that_we_made_of_that_file_is_one(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "m.pt")
    copy = convert(open_tensors(tmp_path / "m.pt"), WEIGHTS, tmp_path / "m.safetensors").path
    assert is_copy(copy, tmp_path / "m.pt") and not is_copy(copy, tmp_path / "m.bin")
    save_tensors(copy, WEIGHTS)
    assert not is_copy(copy, tmp_path / "m.pt")
    copy.write_bytes(b"no weights")
    assert not is_copy(copy, tmp_path / "m.pt")


def test_the_safetensors_library_reads_what_we_write_of_every_type(tmp_path: Path) -> None:
    types = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
    types += [torch.float16, torch.bfloat16, torch.float32, torch.float64]
    odd = {f"t{n}": torch.tensor([[1, 0, 1]]).to(dtype) for n, dtype in enumerate(types)}
    odd |= {"empty": torch.zeros(0, 3), "one": torch.tensor(2.5), "turned": torch.arange(6.0).reshape(2, 3).T}
    save_tensors(tmp_path / "m.safetensors", odd, {"note": "Zürich"})
    read = load_file(tmp_path / "m.safetensors")
    assert set(read) == set(odd)
    for name, tensor in odd.items():
        assert read[name].dtype == tensor.dtype and torch.equal(read[name], tensor)
    assert open_tensors(tmp_path / "m.safetensors").metadata["note"] == "Zürich"


def test_a_mapping_is_given_back_after_every_portion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tensors(tmp_path / "m.safetensors", {f"t{n}": torch.full((4,), float(n)) for n in range(6)})
    mapped = []
    monkeypatch.setattr(tensors, "_open_mapped", lambda path: mapped.append(path) or safe_open(path, "pt"))
    monkeypatch.setattr(tensors, "_PORTION", 32)  # two of these tensors
    file = open_tensors(tmp_path / "m.safetensors")
    mapped.clear()
    assert [float(file[f"t{n}"][0]) for n in range(6)] == [0, 1, 2, 3, 4, 5]
    assert len(mapped) == 3


def test_a_full_disk_while_converting_leaves_the_pickle_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(WEIGHTS, tmp_path / "m.pt")

    def full(file, tensors, layout, metadata):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tensors, "_write_safetensors", full)
    kept = convert(open_tensors(tmp_path / "m.pt"), WEIGHTS, tmp_path / "m.safetensors")
    assert kept.path.name == "m.pt"
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt"]


def test_a_broken_file_is_kept_aside_under_a_free_name(tmp_path: Path) -> None:
    for content in ("first", "second"):
        (tmp_path / "m.pt").write_text(content)
        set_aside(tmp_path / "m.pt")
    assert (tmp_path / "m.pt.broken").read_text() == "first"
    assert (tmp_path / "m.pt.broken-2").read_text() == "second"


def test_the_digest_sees_names_shapes_types_and_values() -> None:
    base = {"a": torch.zeros(4)}
    others = [
        {"b": torch.zeros(4)},
        {"a": torch.zeros(2, 2)},
        {"a": torch.zeros(4).half()},
        {"a": torch.ones(4)},
    ]
    assert len({digest(each) for each in [base, *others]}) == 5
    assert digest({"a": base["a"], "c": base["a"]}) == digest({"c": base["a"], "a": base["a"]})
