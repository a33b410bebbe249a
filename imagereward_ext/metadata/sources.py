"""The prompt an image was made from, wherever its maker put it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from imagereward_ext.metadata import infotext
from imagereward_ext.metadata.containers import Texts
from imagereward_ext.metadata.found_text import LONGEST, FoundText
from imagereward_ext.wording import well_formed

_LONGEST_INTEGER = 20


class FoundPrompt(NamedTuple):
    """A prompt as it was written, and where."""

    text: str
    source: str


def find_prompt(path: Path, texts: Texts) -> tuple[FoundPrompt | None, str]:
    """Look for the prompt of an image: in its own texts first, then in a text file of the same name.

    Beside it comes why a text on the way could not be read, "" when all could.
    """
    flaws = []
    for source, found in _candidates(path, texts):
        found = infotext.within_bounds(found)
        if found.flaw:
            flaws.append(found.flaw)
        if found.text.strip():
            return FoundPrompt(well_formed(found.text), source), "".join(flaws[:1])
    return None, "".join(flaws[:1])


def _candidates(path: Path, texts: Texts) -> Iterator[tuple[str, FoundText]]:
    yield "infotext", _prompt_of(texts.infotext)
    yield "NovelAI", _novelai(texts.others)
    yield "ComfyUI", _comfyui(texts.others.get("prompt", FoundText()))
    yield "text file", _prompt_of(_side_file_text(side_file(path)))


def _prompt_of(found: FoundText) -> FoundText:
    return FoundText(infotext.parse(found.text).prompt, found.flaw)


def side_file(path: Path) -> Path:
    """Name the text file that the WebUI can write beside an image, and that data sets have for captions."""
    return path.with_suffix(".txt")


def _side_file_text(path: Path) -> FoundText:
    try:
        if not path.is_file():
            return FoundText()
        size = path.stat().st_size
        if size > LONGEST:
            return FoundText("", f"{path.name} has {size:,} bytes; more than {LONGEST:,} are not read")
        return infotext.within_bounds(FoundText(path.read_text(encoding="utf-8-sig", errors="replace")))
    except OSError:
        return FoundText()


def _novelai(texts: dict[str, FoundText]) -> FoundText:
    software, description, comment = (
        texts.get(keyword, FoundText()) for keyword in ("Software", "Description", "Comment")
    )
    if software.text != "NovelAI":
        return FoundText()
    prompt = description.text or _json_object(comment.text).get("prompt", "")
    if not isinstance(prompt, str):
        return FoundText()
    plain = prompt.translate({ord(bracket): None for bracket in "{}"})  # its signs for more attention
    return FoundText(plain, description.flaw or comment.flaw)


def _comfyui(workflow: FoundText) -> FoundText:
    """Read the positive text of a graph of nodes, "" unless all samplers agree on one."""
    nodes = _json_object(workflow.text)
    samplers = [
        inputs for node in nodes.values() if "positive" in (inputs := _inputs(node)) and "negative" in inputs
    ]
    found = set(_texts_behind(nodes, [inputs["positive"] for inputs in samplers]))
    return FoundText(found.pop() if len(found) == 1 else "", workflow.flaw)


_LINKS_TO_TEXT = (
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


def _texts_behind(nodes: dict[str, Any], links: list[object]) -> Iterator[str]:
    """Follow links back to the texts they start from, through each node once."""
    waiting = list(links)
    followed: set[str] = set()
    while waiting:
        link = waiting.pop()
        if isinstance(link, str) and link.strip():
            yield link
        if not isinstance(link, list) or not link or not isinstance(link[0], (str, int)):
            continue
        name = str(link[0])
        if name not in followed:
            followed.add(name)
            inputs = _inputs(nodes.get(name))
            waiting += [inputs[field] for field in _LINKS_TO_TEXT if field in inputs]


def _inputs(node: object) -> dict[str, Any]:
    inputs = node.get("inputs") if isinstance(node, dict) else None
    return inputs if isinstance(inputs, dict) else {}


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text, parse_int=_integer)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _integer(digits: str) -> int:
    """Read an integer; a million digits, which older Pythons take minutes for, are no seed and no node's name."""
    return int(digits) if len(digits) <= _LONGEST_INTEGER else 0
