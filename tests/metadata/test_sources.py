"""Where an image's prompt is found when the WebUI did not write it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from imagereward_ext.metadata import records
from imagereward_ext.metadata.score_mark import ScoreMark
from tests.fuzzing import graphs
from tests.metadata.test_infotext import TYPICAL


def png(folder: Path, **texts: str) -> Path:
    info = PngInfo()
    for keyword, text in texts.items():
        info.add_text(keyword, text)
    Image.new("RGB", (4, 4)).save(folder / "image.png", pnginfo=info)
    return folder / "image.png"


def text_node(text: Any) -> dict[str, Any]:
    return {"class_type": "CLIPTextEncode", "inputs": {"text": text, "clip": ["4", 1]}}


def sampler(positive: str) -> dict[str, Any]:
    return {"class_type": "KSampler", "inputs": {"seed": 1, "positive": [positive, 0], "negative": ["9", 0]}}


GRAPHS = {
    "direct": ({"1": text_node("a fox"), "3": sampler("1"), "9": text_node("ugly")}, "a fox"),
    "through a node": (
        {
            "1": text_node("a fox"),
            "2": {"inputs": {"conditioning": ["1", 0], "guidance": 3.5}},
            "3": sampler("2"),
        },
        "a fox",
    ),
    "text from a node": (
        {"0": {"inputs": {"string": "a fox"}}, "1": text_node(["0", 0]), "3": sampler("1")},
        "a fox",
    ),
    "two samplers, one text": ({"1": text_node("a fox"), "3": sampler("1"), "5": sampler("1")}, "a fox"),
    "two samplers, two texts": (
        {"1": text_node("a"), "2": text_node("b"), "3": sampler("1"), "5": sampler("2")},
        "",
    ),
    "a circle": ({"1": {"inputs": {"conditioning": ["1", 0]}}, "3": sampler("1")}, ""),
    "a ladder of 40 nodes": (graphs.ladder(40), "a fox"),
    "many samplers": (graphs.chain_with_many_samplers(40), "a fox"),
    "a link by number": (
        {"1": text_node("a fox"), "3": {"inputs": {"positive": [1, 0], "negative": []}}},
        "a fox",
    ),
    "half a letter": ({"1": text_node("\ud800 fox"), "3": sampler("1")}, "\N{REPLACEMENT CHARACTER} fox"),
    "a deep link": ({"3": {"inputs": {"positive": [[[["1"]]]], "negative": []}}}, ""),
    "no graph": ([1, 2], ""),
    "rubbish inside": ({"1": None, "3": {"inputs": {"positive": [], "negative": 1}}}, ""),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_comfyui_graphs_give_their_text_when_there_is_one(tmp_path: Path, name: str) -> None:
    graph, prompt = GRAPHS[name]
    record = records.read(png(tmp_path, prompt=json.dumps(graph)))
    assert record.prompt == prompt
    assert record.own_prompt is None or record.own_prompt.source == "ComfyUI"


def test_novelai_images_give_their_description(tmp_path: Path) -> None:
    path = png(tmp_path, Software="NovelAI", Description="{{a fox}}, [snow]", Comment='{"uc": "ugly"}')
    assert records.read(path).prompt == "a fox, snow"


def test_a_text_file_beside_the_image_is_read(tmp_path: Path) -> None:
    path = png(tmp_path)
    path.with_suffix(".txt").write_text(TYPICAL + "\n", encoding="utf-8")
    record = records.read(path)
    assert record.own_prompt == ("a (red:1.2) fox, <lora:fur:0.8>\nsecond line", "text file")
    assert record.prompt == "a red fox, second line"


def test_the_images_own_text_comes_first(tmp_path: Path) -> None:
    path = png(tmp_path, parameters=TYPICAL, prompt=json.dumps(GRAPHS["direct"][0]))
    path.with_suffix(".txt").write_text("something else", encoding="utf-8")
    assert records.read(path).own_prompt == ("a (red:1.2) fox, <lora:fur:0.8>\nsecond line", "infotext")


@pytest.mark.parametrize("content", ["", "{", "null", "[" * 5000, '{"a": ' + "1" * 6000 + "}"])
def test_rubbish_is_no_prompt(tmp_path: Path, content: str) -> None:
    record = records.read(png(tmp_path, prompt=content))
    assert (record.own_prompt, record.prompt) == (None, "")


def test_an_integer_of_thousands_of_digits_spoils_no_graph(tmp_path: Path) -> None:
    graph = json.dumps({"1": text_node("a fox"), "3": sampler("1")})
    path = png(tmp_path, prompt=graph.replace('"seed": 1', '"seed": ' + "1" * 6000))
    assert records.read(path).prompt == "a fox"


@pytest.mark.parametrize(
    ("size", "says"),
    [(200_000, "more than 131,072 are not read"), (2**21 + 1, "image.txt has 2,097,153 bytes")],
)
def test_a_text_file_of_a_size_that_no_prompt_has_is_not_read(tmp_path: Path, size: int, says: str) -> None:
    path = png(tmp_path)
    path.with_suffix(".txt").write_text("x" * size)
    record = records.read(path)
    assert record.prompt == ""
    assert says in record.flaw
    path = png(tmp_path, parameters=TYPICAL)
    assert records.read(path).flaw == ""  # with a prompt of its own it does not matter


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ({"prompt": " " * 2**21}, 'its text "prompt" has 2,097,159 bytes'),
        ({"Software": "NovelAI", "Description": "x" * 200_000}, "has 200,000 characters"),
    ],
)
def test_a_prompt_too_long_to_be_read_is_told(tmp_path: Path, texts: dict[str, str], says: str) -> None:
    record = records.read(png(tmp_path, **texts))
    assert (record.own_prompt, record.prompt) == (None, "")
    assert says in record.flaw


def test_an_image_without_a_prompt_remembers_what_it_was_scored_under(tmp_path: Path) -> None:
    path = png(tmp_path)
    mark = ScoreMark("ImageReward", 0.5, "1a2b3c4d5e", "a fox, red")
    records.write_mark(path, mark)
    record = records.read(path)
    assert (record.prompt, record.earlier_prompt) == ("", "a fox, red")
    assert record.marks() == [mark]
