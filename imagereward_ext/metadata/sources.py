"""The prompt an image was made from, wherever its maker put it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from imagereward_ext.metadata import infotext
from imagereward_ext.metadata.containers import Texts

_LONGEST_SIDE_FILE = 2**20


class FoundPrompt(NamedTuple):
    """A prompt as it was written, and where."""

    text: str
    source: str


def find_prompt(path: Path, texts: Texts) -> FoundPrompt | None:
    """Look for the prompt of an image: in its own texts first, then in a text file of the same name."""
    candidates = (
        ("infotext", infotext.parse(texts.infotext).prompt),
        ("NovelAI", _novelai(texts.others)),
        ("ComfyUI", _comfyui(texts.others.get("prompt", ""))),
        ("text file", _side_file_prompt(side_file(path))),
    )
    return next((FoundPrompt(text, source) for source, text in candidates if text.strip()), None)


def side_file(path: Path) -> Path:
    """Name the text file that the WebUI can write beside an image, and that data sets have for captions."""
    return path.with_suffix(".txt")


def _side_file_prompt(path: Path) -> str:
    try:
        if not path.is_file() or path.stat().st_size > _LONGEST_SIDE_FILE:
            return ""
        return infotext.parse(path.read_text(encoding="utf-8-sig", errors="replace")).prompt
    except OSError:
        return ""


def _novelai(texts: dict[str, str]) -> str:
    if texts.get("Software") != "NovelAI":
        return ""
    prompt = texts.get("Description", "") or str(_json_object(texts.get("Comment", "")).get("prompt", ""))
    return prompt.translate({ord(bracket): None for bracket in "{}"})  # its signs for more attention


def _comfyui(workflow: str) -> str:
    """Read the positive text of a graph of nodes, "" unless all samplers agree on one."""
    nodes = _json_object(workflow)
    found = {
        text
        for node in nodes.values()
        if "positive" in (inputs := _inputs(node)) and "negative" in inputs
        for text in _texts_behind(nodes, inputs["positive"], set())
    }
    return found.pop() if len(found) == 1 else ""


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


def _texts_behind(nodes: dict[str, Any], link: object, seen: set[str]) -> Iterator[str]:
    """Follow links back to the texts they start from."""
    if isinstance(link, str):
        if link.strip():
            yield link
        return
    if not isinstance(link, list) or not link or str(link[0]) in seen:
        return
    seen = seen | {str(link[0])}
    inputs = _inputs(nodes.get(str(link[0])))
    for name in _LINKS_TO_TEXT:
        if name in inputs:
            yield from _texts_behind(nodes, inputs[name], seen)


def _inputs(node: object) -> dict[str, Any]:
    inputs = node.get("inputs") if isinstance(node, dict) else None
    return inputs if isinstance(inputs, dict) else {}


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
