"""ComfyUI's graphs of nodes: circles, ladders, links to nowhere, and JSON that is a burden by its form."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from imagereward_ext.metadata.containers import Texts
from imagereward_ext.metadata.found_text import FoundText
from imagereward_ext.metadata.sources import find_prompt
from tests.fuzzing import without_a_part

Graph = dict[str, Any]

# Written down here a second time: taken from the code, a link lost there would be missed here too.
LINKS = (
    "text",
    "text_g",
    "string",
    "value",
    "prompt",
    "positive",
    "conditioning",
    "conditioning_1",
    "conditioning_2",
)
ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    0.5,
    10**30,
    "",
    " ",
    [],
    [[]],
    [None, 0],
    {},
    {"inputs": 1},
    [["1"], 0],
    "\ud800",
)
NOWHERE = Path("no such folder/image.png")


def sampler(positive: Any) -> Graph:
    return {"class_type": "KSampler", "inputs": {"seed": 1, "positive": positive, "negative": ["n", 0]}}


def ladder(size: int) -> Graph:
    """Make nodes whose two inputs both link to the next: 2 to the power of `size` ways lead to the text."""
    nodes = {
        str(i): {"inputs": {"conditioning_1": [str(i + 1), 0], "conditioning_2": [str(i + 1), 0]}}
        for i in range(size)
    }
    return {**nodes, str(size): {"inputs": {"text": "a fox"}}, "s": sampler(["0", 0])}


def chain_with_many_samplers(size: int) -> Graph:
    nodes = {str(i): {"inputs": {"conditioning": [str(i + 1), 0]}} for i in range(size)}
    samplers = {f"s{i}": sampler(["0", 0]) for i in range(size)}
    return {**nodes, str(size): {"inputs": {"text": "a fox"}}, **samplers}


def circle(size: int) -> Graph:
    nodes = {
        str(i): {"inputs": {"conditioning": [str((i + 1) % size), 0], "text": [str(i // 2), 0]}}
        for i in range(size)
    }
    return {**nodes, "s": sampler(["0", 0])}


GROWING: dict[str, Callable[[int], str]] = {
    "ladder": lambda n: json.dumps(ladder(n)),
    "many samplers": lambda n: json.dumps(chain_with_many_samplers(n)),
    "circle": lambda n: json.dumps(circle(n)),
    "many texts": lambda n: json.dumps({"s": sampler(["0", 0]), "0": {"inputs": {"text": "a" * n}}}),
    "deep": lambda n: '{"a": ' + "[" * n + "]" * n + "}",
    "digits": lambda n: '{"a": ' + "1" * n + "}",
    "integers": lambda n: '{"a": [' + "1, " * n + "1]}",
    "no end": lambda n: '{"a": [' * n,
}


def cases(seed: int) -> Iterator[str]:
    chance = random.Random(seed)
    while True:
        if chance.random() < 0.1:
            yield GROWING[chance.choice(list(GROWING))](chance.randint(1, 200))
            continue
        text = json.dumps(_graph(chance))
        if chance.random() < 0.2:
            place = chance.randrange(len(text))
            text = (
                text[:place]
                + chance.choice(["", '"', "[", "}", "\\ud800", "1e999"])
                + text[place + chance.randint(0, 3) :]
            )
        yield text


def _graph(chance: random.Random) -> Graph:
    names = [str(i) for i in range(chance.randint(1, 12))]

    def value() -> Any:
        kind = chance.random()
        if kind < 0.6:
            return [chance.choice([*names, 1, 2]), 0]
        return chance.choice(["a fox", "a dog"]) if kind < 0.75 else chance.choice(ODD_VALUES)

    def node() -> Any:
        if chance.random() < 0.05:
            return chance.choice(ODD_VALUES)
        return {"inputs": {field: value() for field in chance.sample(LINKS, k=chance.randint(0, 3))}}

    graph = {name: node() for name in names}
    return graph | {f"s{i}": sampler(value()) for i in range(chance.randint(0, 3))}


def check(case: str) -> str | None:
    """Compare the prompt that is found with what can be reached at all, step by step from the samplers."""
    texts = Texts("PNG", FoundText(), {"prompt": FoundText(case)})
    try:
        prompt, flaw = find_prompt(NOWHERE, texts)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    expected = _expected(case)
    found = "" if prompt is None else prompt.text
    if found != expected:
        return f"found {found!r} and not {expected!r}"
    return f"refused: {flaw}" if flaw else None


def _expected(case: str) -> str:
    try:
        nodes = json.loads(case)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(nodes, dict):
        return ""
    inputs = {name: node.get("inputs") for name, node in nodes.items() if isinstance(node, dict)}
    inputs = {name: fields for name, fields in inputs.items() if isinstance(fields, dict)}
    reached = [f["positive"] for f in inputs.values() if "positive" in f and "negative" in f]
    for value in reached:  # grows while it is walked over
        if isinstance(value, list) and value and type(value[0]) in (str, int):
            fields = inputs.get(str(value[0]), {})
            reached += [
                fields[link] for link in LINKS if link in fields and not _among(fields[link], reached)
            ]
    texts = {value for value in reached if isinstance(value, str) and value.strip()}
    return texts.pop().replace("\ud800", "\N{REPLACEMENT CHARACTER}") if len(texts) == 1 else ""


def _among(value: Any, values: list[Any]) -> bool:
    return any(type(value) is type(other) and value == other for other in values)


smaller = without_a_part
