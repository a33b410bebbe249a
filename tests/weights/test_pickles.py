"""PyTorch's files, read by a machine of our own: as torch reads them, and nothing in them runs."""

from __future__ import annotations

import copyreg
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from imagereward_ext.diffusion import checkpoint
from imagereward_ext.diffusion.checkpoint import CheckpointError
from imagereward_ext.errors import WeightsError
from imagereward_ext.weights import pickles
from imagereward_ext.weights.archive import DamagedError, UnsupportedError
from imagereward_ext.weights.pickle_names import ForbiddenError
from imagereward_ext.weights.pickles import PickleFile, read_all
from imagereward_ext.weights.stored import Inert
from imagereward_ext.weights.tensors import (
    BrokenWeightsError,
    UnreadableWeightsError,
    map_pickle,
    open_tensors,
)
from tests.fuzzing import programs
from tests.fuzzing.work import lines_run

DTYPES = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16,
          torch.float32, torch.float64, torch.complex64, torch.complex128]  # fmt: skip


def saved(content: Any, path: Path, zipped: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


@pytest.mark.parametrize("zipped", [True, False])
def test_every_tensor_comes_back_as_torch_saved_it(tmp_path: Path, zipped: bool) -> None:
    base = torch.arange(24.0).reshape(2, 3, 4)
    content = {f"of {dtype}": torch.tensor([[0, 1, 1], [1, 0, 1]]).to(dtype) for dtype in DTYPES}
    content |= {"a number": torch.tensor(2.5), "empty": torch.zeros(0, 3), "no sides but one": torch.zeros(0),
                "base": base, "a row": base[1], "turned": base.permute(2, 0, 1), "every second": base[..., ::2],
                "one column": base[:, :, 3], "repeated": torch.tensor([[1.0], [2.0]]).expand(2, 5),
                "the diagonal": base[0].diagonal(), "odd": torch.arange(7, dtype=torch.uint8)[3:],
                "trained": nn.Parameter(torch.ones(2, 2))}  # fmt: skip
    path = saved(content, tmp_path / "m.pt", zipped)
    file, copies = PickleFile(path), read_all(path)
    pages = file.map()
    assert list(copies) == list(content)
    for key, value in content.items():
        mapped = file.content[key].over(pages)
        for read in (mapped, copies[key]):
            assert (read.dtype, read.shape) == (value.dtype, value.shape) and torch.equal(read, value)
        assert not value.numel() or mapped.stride() == value.stride()


def test_types_without_a_storage_class_come_back(tmp_path: Path) -> None:
    if not hasattr(torch, "uint16"):
        pytest.skip("this torch cannot save such types itself")
    kinds = [torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16]
    values = {str(kind): torch.tensor([1, 2, 3], dtype=torch.uint8).to(kind) for kind in kinds}
    read = read_all(saved(values, tmp_path / "m.pt"))
    for key, value in values.items():
        assert read[key].dtype == value.dtype and torch.equal(read[key].float(), value.float())


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_torch_can_write_is_read(tmp_path: Path, protocol: int) -> None:
    content = {
        "a": torch.ones(3),
        "text": "ü" * 300,
        "number": 2**70,
        "set": {1},
        "none": (None, True, 1.5, -7),
    }
    torch.save(content, tmp_path / "m.pt", pickle_protocol=protocol)
    read = read_all(tmp_path / "m.pt")
    assert torch.equal(read["a"], torch.ones(3))
    assert (read["text"], read["number"], read["none"]) == ("ü" * 300, 2**70, (None, True, 1.5, -7))


def test_the_state_of_a_module_and_of_an_optimiser_come_back(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimiser = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 3)).sum().backward()
    optimiser.step()
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "scaler": {}, "step": 3}
    assert isinstance(state["model"], OrderedDict) and hasattr(state["model"], "_metadata")
    read = read_all(saved(state, tmp_path / "m.pt"))
    model.load_state_dict(read["model"])
    optimiser.load_state_dict(read["optimiser"])
    assert read["optimiser"]["param_groups"] == state["optimiser"]["param_groups"]
    for number, values in state["optimiser"]["state"].items():
        assert all(
            torch.equal(read["optimiser"]["state"][number][key], value) for key, value in values.items()
        )


def test_reading_changes_no_file(tmp_path: Path) -> None:
    path = saved({"a": torch.ones(4)}, tmp_path / "m.pt")
    before = path.read_bytes()
    open_tensors(path)["a"].add_(1)
    assert path.read_bytes() == before


class ModelCheckpoint:
    """As pytorch_lightning's, which checkpoints of Stable Diffusion hold; its class is the key of its state."""

    def __setstate__(self, state: object) -> None:
        raise AssertionError("it was made")


def test_the_log_of_a_training_is_left_out_of_a_checkpoint(tmp_path: Path) -> None:
    import argparse
    import pathlib

    log = ModelCheckpoint()
    log.best = 0.5
    content = {"state_dict": OrderedDict(a=torch.ones(2)), "global_step": 840000, "callbacks": {ModelCheckpoint: log},
               "hyper_parameters": argparse.Namespace(rate=1e-4), "home": pathlib.PurePosixPath("/a")}  # fmt: skip
    path = saved(content, tmp_path / "model.ckpt")
    assert torch.equal(checkpoint.read_tensors(path)["a"], torch.ones(2))
    read = read_all(path)
    assert read["global_step"] == 840000
    assert list(read["callbacks"]) == [Inert(f"{__name__}.ModelCheckpoint")]
    assert isinstance(read["hyper_parameters"], Inert)


@pytest.mark.parametrize("form", ["archive", "old"])
@pytest.mark.parametrize("place", ["alone", "among weights"])
@pytest.mark.parametrize("way", programs.attacks(""))
def test_nothing_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, place: str, form: str
) -> None:
    target = tmp_path / "ran"
    attack = programs.attacks(f"touch {target}")[way]
    content = attack if place == "alone" else programs.dictionary(x=attack, a=programs.tensor())
    path = tmp_path / "evil.ckpt"
    keys = pickle.EMPTY_LIST + programs.text("0") + pickle.APPEND
    numbers = struct.pack("<Q6f", 6, *range(6))
    path.write_bytes(
        programs.archive(content) if form == "archive" else programs.old(content, keys) + numbers
    )
    ran = []
    monkeypatch.setitem(copyreg._inverted_registry, 1, ("os", "system"))
    for name in ("system", "popen"):
        monkeypatch.setattr(f"os.{name}", ran.append)
    for read in (open_tensors, checkpoint.inspect, checkpoint.read_tensors, read_all):
        try:
            read(path)
        except (WeightsError, CheckpointError) as error:
            assert "evil.ckpt" in str(error) and "\n" not in str(error)
        except (DamagedError, ForbiddenError, UnsupportedError):
            assert read is read_all
    assert not target.exists() and not ran


def test_a_program_that_asks_for_pythons_functions_is_refused_by_name(tmp_path: Path) -> None:
    for way, name in {"a function": "os.system", "a built-in function": "builtins.exec",
                      "a name on the stack": "os.system", "a function inside an allowed call": "os.system",
                      "a state": "os.system", "a new object": "subprocess.Popen"}.items():  # fmt: skip
        path = tmp_path / "evil.ckpt"
        path.write_bytes(programs.archive(programs.attacks("true")[way]))
        with pytest.raises(WeightsError, match=rf"evil.ckpt cannot be read: it holds code.*\({name}\)"):
            open_tensors(path)


@pytest.mark.parametrize("name", programs.bombs())
def test_what_a_file_costs_is_bounded_by_its_size(tmp_path: Path, name: str) -> None:
    content = programs.bombs()[name]
    path = tmp_path / "m.pt"
    path.write_bytes(programs.archive(content))

    def read() -> None:
        with pytest.raises((WeightsError, DamagedError)):
            open_tensors(path)
        with pytest.raises((ForbiddenError, DamagedError, UnsupportedError)):
            read_all(path)
            raise DamagedError("it could be read")

    assert lines_run(read, at_most=100 * len(content) + 10_000)


@pytest.mark.parametrize("name", programs.lies())
def test_a_tensor_that_lies_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(programs.archive(programs.dictionary(a=programs.lies()[name])))
    with pytest.raises(DamagedError):
        PickleFile(path)
    with pytest.raises(WeightsError, match="m.pt cannot be read: it is cut off, damaged"):
        open_tensors(path)


def test_a_program_made_by_hand_is_read(tmp_path: Path) -> None:
    """So that what the others are refused for is their lie."""
    (tmp_path / "m.pt").write_bytes(programs.archive(programs.dictionary(a=programs.tensor())))
    assert torch.equal(open_tensors(tmp_path / "m.pt")["a"], torch.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize(
    ("packed", "members", "reason"),
    [
        (zipfile.ZIP_DEFLATED, {"data/0": b"\0" * 24}, "compressed"),
        (zipfile.ZIP_STORED, {"data/0": b"\0" * 24, "byteorder": b"big"}, "big-endian"),
        (zipfile.ZIP_STORED, {"data/0": b"\0" * 23}, "too short"),
        (zipfile.ZIP_STORED, {}, "missing"),
    ],
)
def test_an_archive_unlike_torchs_is_refused(tmp_path: Path, packed: int, members: dict, reason: str) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(programs.archive(programs.dictionary(a=programs.tensor()), members, packed))
    with pytest.raises(WeightsError, match=reason):
        open_tensors(path)


def test_members_that_share_bytes_or_a_name_are_refused(tmp_path: Path) -> None:
    whole = programs.archive(
        programs.dictionary(a=programs.tensor()), {"data/0": b"\0" * 24, "data/1": b"\1" * 24}
    )
    entries = [place for place in range(len(whole)) if whole.startswith(b"PK\x01\x02", place)]
    same_place = bytearray(whole)
    same_place[entries[2] + 42 : entries[2] + 46] = whole[entries[1] + 42 : entries[1] + 46]
    (tmp_path / "m.pt").write_bytes(same_place)
    with pytest.raises(WeightsError, match="overlap"):
        open_tensors(tmp_path / "m.pt")
    (tmp_path / "m.pt").write_bytes(whole.replace(b"data/1", b"data/0"))
    with pytest.raises(WeightsError, match="twice"):
        open_tensors(tmp_path / "m.pt")


def test_old_files_with_storages_that_lie_are_refused(tmp_path: Path) -> None:
    content = programs.dictionary(a=programs.tensor())
    keys = pickle.EMPTY_LIST + programs.text("0") + pickle.APPEND
    whole = programs.old(content, keys) + struct.pack("<Q6f", 6, *range(6))
    path = tmp_path / "m.pt"
    path.write_bytes(whole)
    assert torch.equal(open_tensors(path)["a"], torch.arange(6.0).reshape(2, 3))
    for broken in (whole[:-1], whole[:-28], whole[:-32] + struct.pack("<Q6f", 2**63, *range(6)),
                   programs.old(content, pickle.EMPTY_LIST), programs.old(content, keys.replace(b"0", b"1")),
                   programs.old(content, pickle.EMPTY_LIST + pickle.EMPTY_LIST + pickle.APPEND)):  # fmt: skip
        path.write_bytes(broken)
        with pytest.raises(WeightsError, match="cannot be read"):
            open_tensors(path)


def test_a_program_of_gigabytes_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "LARGEST_PROGRAM", 50)
    with pytest.raises(UnsupportedError, match="50 are read"):
        PickleFile(saved({"a": torch.ones(2)}, tmp_path / "m.pt"))


def test_what_a_fresh_copy_would_not_change_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    tensor = programs.dictionary(a=programs.tensor())
    flagged = programs.flagged(programs.dictionary(conj=pickle.NEWTRUE))
    for content in (
        programs.archive(tensor, packed=zipfile.ZIP_DEFLATED),
        programs.archive(tensor, {"data/0": b"\0" * 24, "byteorder": b"big"}),
        programs.archive(pickle.INT + b"1\n"),
        programs.archive(programs.dictionary(a=programs.tensor(of=programs.storage(kind="QInt8Storage")))),
        programs.archive(programs.dictionary(a=flagged)),
    ):
        path.write_bytes(content)
        with pytest.raises(UnreadableWeightsError, match=r"m.pt cannot be read: it.*Save it anew") as refusal:
            open_tensors(path)
        assert not isinstance(refusal.value, BrokenWeightsError)
    path.write_bytes(b"<html>404</html>")
    with pytest.raises(BrokenWeightsError, match="in neither of PyTorch's formats"):
        open_tensors(path)


def test_a_tensor_without_flags_says_so_in_torchs_newest_form(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(programs.archive(programs.dictionary(a=programs.flagged(programs.dictionary()))))
    assert torch.equal(open_tensors(path)["a"], torch.arange(6.0).reshape(2, 3))


def test_a_conjugated_tensor_does_not_come_back_as_another(tmp_path: Path) -> None:
    values = torch.tensor([1 + 2j]).conj()
    with pytest.raises(UnreadableWeightsError, match="conjugated"):
        open_tensors(saved({"a": values}, tmp_path / "m.pt"))


def test_an_optimisers_state_of_other_keys_spoils_no_checkpoint(tmp_path: Path) -> None:
    state = {140_000_000_000_000: torch.ones(1), (1, 2): 3, None: 4, 0.5: 5, "kept": 6, 7: 8}
    path = saved({"state_dict": {"a": torch.ones(2)}, "optimizer": {"state": state}}, tmp_path / "m.ckpt")
    assert torch.equal(open_tensors(path)["a"], torch.ones(2))
    assert read_all(path)["optimizer"]["state"] == {"kept": 6, 7: 8}


def test_bytes_that_may_change_are_read_in_the_newest_protocol(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2), "log": bytearray(b"xyz")}, tmp_path / "m.pt", pickle_protocol=5)
    assert read_all(tmp_path / "m.pt")["log"] == b"xyz"


def test_tensors_that_share_their_numbers_share_them_again(tmp_path: Path) -> None:
    """Each of them with a copy of all would take a thousand times the file for a thousand tensors."""
    base = torch.arange(8.0)
    content = {"base": base, **{f"row {n}": base[n : n + 2] for n in range(4)}}
    paths = [saved(content, tmp_path / "m.pt"), saved(content, tmp_path / "old.pt", zipped=False)]
    odd = tmp_path / "odd.pt"  # its numbers begin at no type's place
    odd.write_bytes(
        programs.archive(programs.dictionary(a=programs.tensor(), b=programs.tensor((2, 2), (3, 1), 1)))
    )
    assert b"".join(struct.pack("<f", n) for n in range(6)) in odd.read_bytes()
    assert odd.read_bytes().index(struct.pack("<6f", *range(6))) % 16
    for path in (*paths, odd):
        for read in (map_pickle, read_all):
            tensors = read(path)
            assert len({tensor.untyped_storage().data_ptr() for tensor in tensors.values()}) == 1
            assert all(tensor.untyped_storage().data_ptr() % 16 == 0 for tensor in tensors.values())
            assert all(torch.equal(tensor, open_tensors(path)[name]) for name, tensor in tensors.items())
            next(iter(tensors.values())).add_(1)
            assert torch.equal(tensors["base"] if "base" in tensors else tensors["a"], read_one(path) + 1)


def read_one(path: Path) -> torch.Tensor:
    tensors = open_tensors(path)
    return tensors[next(iter(tensors.shapes))]


@pytest.mark.parametrize(
    ("arguments", "is_called"),
    [
        (pickle.EMPTY_TUPLE, True),
        (pickle.EMPTY_LIST, False),
        (pickle.EMPTY_DICT, False),
        (programs.text(""), False),
        (programs.tuple_of(*[pickle.NONE] * 16), True),
        (programs.tuple_of(*[pickle.NONE] * 17), False),
    ],
)
def test_a_call_copies_no_long_list(tmp_path: Path, arguments: bytes, is_called: bool) -> None:
    path = tmp_path / "m.pt"
    made = programs.name("collections", "OrderedDict") + arguments + pickle.REDUCE
    of_subclass = programs.call(
        programs.name("torch._tensor", "_rebuild_from_type_v2"),
        programs.name("torch._utils", "_rebuild_parameter"),
        pickle.NONE,
        arguments,
    )
    path.write_bytes(programs.archive(made))
    if is_called:
        assert read_all(path) == {}
        return
    for content in (made, of_subclass):
        path.write_bytes(programs.archive(content))
        with pytest.raises(DamagedError, match="with what are no arguments"):
            read_all(path)


def test_a_storage_of_a_long_name_or_of_two_lengths_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(programs.archive(programs.storage("0" * 201), {"data/" + "0" * 201: b"\0" * 24}))
    with pytest.raises(DamagedError, match="one of its storages is damaged"):
        read_all(path)
    path.write_bytes(programs.archive(programs.tuple_of(programs.storage(), programs.storage(count=5))))
    with pytest.raises(DamagedError, match="its storage '0' has two lengths"):
        read_all(path)


def test_a_set_of_one_byte_makes_nothing_new(tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(
        programs.archive(
            programs.tuple_of(pickle.EMPTY_SET, pickle.EMPTY_SET, pickle.MARK + pickle.FROZENSET)
        )
    )
    assert len({id(value) for value in PickleFile(tmp_path / "m.pt").content}) == 1


def test_a_bare_tensor_is_not_looked_for(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="holds no tensors by name"):
        open_tensors(saved(torch.ones(2), tmp_path / "m.pt"))
