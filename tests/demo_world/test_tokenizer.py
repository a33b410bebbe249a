from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from demo.world import grammar, tokenizer


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory):
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.write(folder)
    return transformers.CLIPTokenizer.from_pretrained(str(folder))


def test_every_word_of_the_grammar_is_one_token(clip) -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        prompt = grammar.describe(grammar.random_scene(rng))
        assert len(clip(prompt).input_ids) == len(prompt.split()) + 2


def test_any_other_text_is_spelled_byte_by_byte(clip) -> None:
    text = "straße (cat:1.3) 猫"
    ids = clip(text).input_ids
    assert clip.unk_token_id not in ids[1:-1]
    assert clip.decode(ids[1:-1]).replace(" ", "") == text.replace(" ", "")


def test_the_layout_is_clips(clip) -> None:
    numbers, merges = tokenizer.vocabulary()
    assert len(numbers) == 512 + len(merges) + 2
    assert numbers[tokenizer.END] == len(numbers) - 1 == clip.eos_token_id == clip.pad_token_id
    assert {",</w>", "(</w>", ")</w>", "[</w>", "]</w>"} <= set(numbers)  # WebUIs look these up
    assert clip.model_max_length == 77


def test_writing_twice_gives_the_same_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        tokenizer.write(tmp_path / name)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
