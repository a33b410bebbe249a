"""Weight files: pickles and safetensors that attack, cost, lie, or were broken at any place."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from imagereward_ext.diffusion import checkpoint
from imagereward_ext.errors import ImageRewardError
from imagereward_ext.weights.archive import DamagedError, UnsupportedError
from imagereward_ext.weights.pickle_names import ForbiddenError
from imagereward_ext.weights.pickles import read_all
from imagereward_ext.weights.tensors import digest, open_tensors
from imagereward_ext.wording import visible, well_formed
from tests.fuzzing import programs, without_a_part

SIGN = Path(tempfile.gettempdir()) / "imagereward-a-weight-file-ran-code"
SHAPES: tuple[object, ...] = (
    None,
    [],
    [6],
    [2, 3],
    [0],
    [-1],
    [2**62],
    [2**70],
    ["2"],
    [[2]],
    6,
    {},
    [1.5],
    [True],
)
KEYS = pickle.EMPTY_LIST + programs.text("0") + pickle.APPEND

smaller = without_a_part


def cases(seed: int) -> Iterator[bytes]:
    chance = random.Random(seed)
    contents = [*programs.attacks(f"touch {SIGN}").values(), *programs.lies().values(), programs.tensor()]
    bombs = list(programs.bombs().values())
    whole = [_saved(zipped) for zipped in (True, False)]
    while True:
        kind = chance.random()
        if kind < 0.01:
            data = programs.archive(chance.choice(bombs))
        elif kind < 0.4:
            items = {letter: chance.choice(contents) for letter in "abc"[: chance.randint(1, 3)]}
            content = programs.dictionary(**items)
            if chance.random() < 0.5:
                content = _broken(chance, content)
            numbers = struct.pack("<Q6f", 6, *range(6))
            data = (
                programs.archive(content) if chance.random() < 0.7 else programs.old(content, KEYS) + numbers
            )
        elif kind < 0.7:
            data = chance.choice(whole)
        else:
            data = _safetensors(chance)
        yield _broken(chance, data) if chance.random() < 0.6 else data


def _saved(zipped: bool) -> bytes:
    file = io.BytesIO()
    content = {"model": {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2).half()}, "step": 3}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def _safetensors(chance: random.Random) -> bytes:
    header: dict[str, object] = {
        "__metadata__": chance.choice(({"imagereward_digest": "0"}, {}, [], {"a": 1}, None))
    }
    for name in chance.choices(("a", "b", "\x1b[2J", "\ud800", "", "a" * 200), k=chance.randint(0, 3)):
        header[name] = {
            "dtype": chance.choice(("F32", "F32", "BOOL", "F8_E4M3", "", None, 1)),
            "shape": chance.choice(SHAPES),
            "data_offsets": chance.choice(
                ([0, 24], [0, 24], [24, 0], [0, 2**63], [0], None, [-1, 23], ["0", "24"])
            ),
        }
        if chance.random() < 0.1:
            header[name] = chance.choice((None, [], "x", 1))
    text = json.dumps(header).encode()
    if chance.random() < 0.1:
        text = b'{"a":' * chance.choice((5, 5_000))
    size = chance.choice((len(text), len(text), len(text), 0, 2**63, len(text) + 1))
    return struct.pack("<Q", size) + text + struct.pack("<6f", *range(6))


def _broken(chance: random.Random, data: bytes) -> bytes:
    for _ in range(chance.choice((1, 1, 4))):
        start = chance.randrange(len(data) + 1)
        end = min(start + chance.choice((0, 1, 1, 2, 4, 30)), len(data))
        new = chance.choice((b"", b"\0", b"\xff", data[start:end] * 2, chance.randbytes(end - start)))
        data = data[:start] + new + data[end:]
    return data[: chance.randrange(len(data) + 1)] if chance.random() < 0.1 else data


def check(case: bytes) -> str | None:
    """Read a file in every way: tensors as large as the file at most, or a line that says why not; nothing runs."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("m.safetensors", "m.ckpt"):
            path = Path(folder) / name
            path.write_bytes(case)
            for read in (_as_scorer, _as_checkpoint, _as_state):
                if (failure := _failure(read, path)) is not None:
                    return f"{read.__name__} of {name}: {failure}"
            if path.read_bytes() != case:
                return f"{name} changed"
    if SIGN.exists():
        SIGN.unlink()
        return "the file ran code"
    return None


def _failure(read: object, path: Path) -> str | None:
    try:
        largest = read(path)  # type: ignore[operator]
    except (ForbiddenError, DamagedError, UnsupportedError):
        return None if read is _as_state else "an error that nobody may see"
    except ImageRewardError as error:
        message = str(error).replace(str(path), "")
        return (
            None
            if visible(well_formed(message)) == message and len(message) < 1000
            else f"an unclear refusal: {message!r}"
        )
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return f"a tensor of {largest:,} bytes" if largest > path.stat().st_size else None


def _as_scorer(path: Path) -> int:
    file = open_tensors(path)
    assert len(file.digest(file.shapes)) == len(digest({}))
    return max((file[name].numel() * file[name].element_size() for name in file.shapes), default=0)


def _as_checkpoint(path: Path) -> int:
    shapes = checkpoint.inspect(path).shapes
    tensors = checkpoint.read_tensors(path)
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == dict(shapes)
    return max((tensor.numel() * tensor.element_size() for tensor in tensors.values()), default=0)


def _as_state(path: Path) -> int:
    if path.suffix != ".ckpt" or not path.stat().st_size:
        return 0
    read_all(path)
    return 0
