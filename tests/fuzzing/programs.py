"""Pickles written instruction by instruction, as nobody's `pickle.dumps` would."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile


def text(value: str) -> bytes:
    content = value.encode("utf-8", "surrogatepass")
    return pickle.BINUNICODE + struct.pack("<I", len(content)) + content


def number(value: int) -> bytes:
    content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return pickle.LONG4 + struct.pack("<I", len(content)) + content


def tuple_of(*items: bytes) -> bytes:
    return pickle.MARK + b"".join(items) + pickle.TUPLE


def name(module: str, attribute: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{attribute}\n".encode()


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + tuple_of(*arguments) + pickle.REDUCE


def dictionary(**items: bytes) -> bytes:
    pairs = b"".join(text(key) + value for key, value in items.items())
    return pickle.EMPTY_DICT + pickle.MARK + pairs + pickle.SETITEMS


def storage(key: str = "0", count: int = 6, kind: str = "FloatStorage") -> bytes:
    return (
        tuple_of(text("storage"), name("torch", kind), text(key), text("cpu"), number(count))
        + pickle.BINPERSID
    )


def tensor(
    shape: tuple[int, ...] = (2, 3),
    stride: tuple[int, ...] = (3, 1),
    offset: int = 0,
    of: bytes | None = None,
) -> bytes:
    sides, steps = (tuple_of(*map(number, values)) for values in (shape, stride))
    rebuild = name("torch._utils", "_rebuild_tensor_v2")
    return call(
        rebuild, storage() if of is None else of, number(offset), sides, steps, pickle.NEWFALSE, pickle.NONE
    )


def flagged(flags: bytes) -> bytes:
    """Return a tensor in the form that also says whether it is conjugated or negated."""
    parts = (storage(), number(0), tuple_of(number(2), number(3)), tuple_of(number(3), number(1)))
    return call(name("torch._utils", "_rebuild_tensor_v2"), *parts, pickle.NEWFALSE, pickle.NONE, flags)


def program(content: bytes) -> bytes:
    return pickle.PROTO + b"\x02" + content + pickle.STOP


def archive(
    content: bytes, members: dict[str, bytes] | None = None, packed: int = zipfile.ZIP_STORED
) -> bytes:
    """Put a program's content and its storages into PyTorch's zip format."""
    members = {"data/0": struct.pack("<6f", *range(6))} if members is None else members
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packed) as target:
        target.writestr("model/data.pkl", program(content))
        for member, data in members.items():
            target.writestr(f"model/{member}", data)
    return file.getvalue()


def old(*contents: bytes) -> bytes:
    """Put contents into the format before that, its two marks and the system first."""
    first = (number(0x1950A86A20F9469CFC6C), number(1001), dictionary())
    return b"".join(map(program, (*first, *contents)))


def attacks(command: str) -> dict[str, bytes]:
    """Contents that would run a command if anything in them were called, in every way a pickle can call."""
    system, shell = name("os", "system"), text(command)
    code = text(f"import os; os.system({command!r})")
    return {
        "a function": call(system, shell),
        "a function of Python 2": call(name("__builtin__", "eval"), code),
        "a built-in function": call(name("builtins", "exec"), code),
        "a name on the stack": text("os") + text("system") + pickle.STACK_GLOBAL + tuple_of(shell) + pickle.REDUCE,
        "an attribute of a name": text("collections") + text("OrderedDict.__init__.__globals__")
        + pickle.STACK_GLOBAL + tuple_of(shell) + pickle.REDUCE,
        "an attribute looked up": call(name("builtins", "getattr"), name("os", "path"), text("os")),
        "a function inside an allowed call": call(name("collections", "OrderedDict"), call(system, shell)),
        "an instance": pickle.MARK + shell + pickle.INST + b"os\nsystem\n",
        "an object": pickle.MARK + system + shell + pickle.OBJ,
        "a new object": name("subprocess", "Popen") + tuple_of(shell) + pickle.NEWOBJ,
        "a new object with names": name("subprocess", "Popen") + tuple_of(shell) + dictionary() + pickle.NEWOBJ_EX,
        "a state": name("collections", "OrderedDict") + tuple_of() + pickle.REDUCE + call(system, shell) + pickle.BUILD,
        "a state of a function": name("torch._utils", "_rebuild_tensor_v2")
        + tuple_of(pickle.NONE, dictionary(__defaults__=tuple_of(shell))) + pickle.BUILD,
        "a registered extension": pickle.EXT1 + b"\x01" + tuple_of(shell) + pickle.REDUCE,
        "a loader of pickles": call(name("torch.storage", "_load_from_bytes"), pickle.BINBYTES
        + struct.pack("<I", len(inner := program(call(system, shell)))) + inner),
        "a subclass's function": call(name("torch._tensor", "_rebuild_from_type_v2"), system, name("torch", "Tensor"),
                                      tuple_of(shell), dictionary()),
        "a subclass's state": call(name("torch._tensor", "_rebuild_from_type_v2"),
                                   name("torch._utils", "_rebuild_tensor_v2"), name("torch", "Tensor"),
                                   tuple_of(storage(), number(0), tuple_of(number(6)), tuple_of(number(1)),
                                            pickle.NEWFALSE, pickle.NONE), call(system, shell)),
        "hooks of a tensor": call(name("torch._utils", "_rebuild_tensor_v2"), storage(), number(0), tuple_of(number(6)),
                                  tuple_of(number(1)), pickle.NEWFALSE, call(system, shell)),
        "a foreign function": call(name("numpy.testing._private.utils", "runstring"), code, dictionary()),
        "PyTorch's own function": call(name("torch.hub", "load"), text("a/b"), text("c")),
        "a storage's type": tuple_of(text("storage"), system, text("0"), text("cpu"), number(6)) + pickle.BINPERSID,
        "a storage's name": call(system, shell) + pickle.BINPERSID,
    }  # fmt: skip


def bombs() -> dict[str, bytes]:
    """Contents that are short and would cost much: memory, time, or the interpreter's stack."""

    def doubled(step: bytes, times: int = 200) -> bytes:
        put, get = (
            (lambda n: pickle.LONG_BINPUT + struct.pack("<I", n)),
            (lambda n: pickle.LONG_BINGET + struct.pack("<I", n)),
        )
        lines = [text("ha") + put(0) + pickle.POP]
        lines += [get(n) + get(n) + step + put(n + 1) + pickle.POP for n in range(times)]
        return b"".join(lines) + get(times)

    laughs = doubled(pickle.TUPLE2)
    long = pickle.EMPTY_LIST + pickle.MARK + pickle.NONE * 10_000 + pickle.APPENDS
    huge = number(2**4_000_000)
    return {
        "laughs": laughs,
        "laughs as a key": pickle.EMPTY_DICT + laughs + pickle.NONE + pickle.SETITEM,
        "laughs as a name of a storage": laughs + pickle.BINPERSID,
        "depth": pickle.EMPTY_LIST * 20_000 + pickle.APPEND * 19_999,
        "deep tuples": pickle.NONE + pickle.TUPLE1 * 20_000,
        "many marks": pickle.MARK * 20_000,
        "a far place in the memo": pickle.NONE + pickle.LONG_BINPUT + b"\xff\xff\xff\xff",
        "a long text that is not there": pickle.BINUNICODE8 + struct.pack("<Q", 2**62),
        "long bytes that are not there": pickle.BINBYTES8 + struct.pack("<Q", 2**40),
        "digits": pickle.INT + b"1" * 1_000_000 + b"\n",
        "digits of a long": pickle.LONG + b"1" * 1_000_000 + b"L\n",
        "huge numbers in a shape": call(name("torch._utils", "_rebuild_tensor_v2"), storage(), number(0),
                                        tuple_of(*[huge] * 2), tuple_of(*[huge] * 2), pickle.NEWFALSE, pickle.NONE),
        "a tensor larger than the file": tensor((2**40,), (0,)),
        "many sides": tensor((1,) * 10_000, (1,) * 10_000),
        "no elements of a huge size": tensor((0, 2**62, 2**62), (0, 0, 0)),
        "keys of one hash": pickle.EMPTY_DICT + pickle.MARK
        + b"".join(number(n * (2**61 - 1)) + pickle.NONE for n in range(5_000)) + pickle.SETITEMS,
        "a list copied": long + b"".join(pickle.BINPUT + b"\x01" + name("torch", "Size") + pickle.BINGET + b"\x01"
                                         + pickle.TUPLE1 + pickle.REDUCE for _ in range(9)),
        "a long name again and again": text("x" * 100_000) + pickle.BINPUT + b"\x01"
        + (pickle.BINGET + b"\x01") * 2 + pickle.STACK_GLOBAL,
        "functions in functions": (name("torch._tensor", "_rebuild_from_type_v2") + pickle.MARK) * 2_000
        + (pickle.TUPLE + pickle.REDUCE) * 2_000,
    }  # fmt: skip


def lies() -> dict[str, bytes]:
    """Tensors that are not where, or not what, their program says."""
    return {
        "a negative offset": tensor(offset=-1),
        "an offset behind the end": tensor(offset=6),
        "a stride too long": tensor(stride=(4, 1)),
        "a negative stride": tensor(stride=(-3, 1)),
        "a negative side": tensor((-2, -3)),
        "nine sides": tensor((1,) * 9, (1,) * 9),
        "more strides than sides": tensor((2, 3), (3, 1, 1)),
        "a storage that is missing": tensor(of=storage("1")),
        "a storage that is another file": tensor(of=storage("../data.pkl")),
        "a longer storage": tensor(of=storage(count=7)),
        "a negative storage": tensor(of=storage(count=-6)),
        "a storage of wider numbers": tensor(of=storage(kind="DoubleStorage")),
        "no storage": tensor(of=pickle.NONE),
        "a text for a storage": tensor(of=text("0")),
    }
