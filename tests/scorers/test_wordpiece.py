"""The tokenizer agrees with transformers' own BERT tokenizer, which the published model was trained with."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imagereward_ext.errors import WeightsError
from imagereward_ext.scorers.wordpiece import WordPieceTokenizer
from tests.reference.cases import PROMPTS, write_vocabulary

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    write_vocabulary(path, size=2_000)
    return path


@pytest.fixture(scope="module")
def tokenizer(vocabulary: Path) -> WordPieceTokenizer:
    return WordPieceTokenizer(vocabulary, window=35)


@pytest.fixture(scope="module")
def reference(vocabulary: Path):
    from transformers import BertTokenizer

    theirs = BertTokenizer(str(vocabulary))
    theirs.add_special_tokens({"bos_token": "[DEC]"})
    theirs.add_special_tokens({"additional_special_tokens": ["[ENC]"]})
    return theirs


def theirs_of(reference, prompt: str) -> list[int]:
    return reference(prompt, padding="max_length", truncation=True, max_length=35)["input_ids"]


@pytest.mark.parametrize(
    "prompt", [*PROMPTS, "[MASK] of a [SEP]", "ﬁne ½ İstanbul\u200b\ttab", "x" * 150, "1girl, solo"]
)
def test_agrees_on_chosen_prompts(tokenizer, reference, prompt: str) -> None:
    assert tokenizer([prompt], CPU).ids.tolist() == [theirs_of(reference, prompt)]


def is_the_same_in_every_unicode(letter: str) -> bool:
    """Leave out what Python's tables and those of the tokenizers may know by another category."""
    return unicodedata.category(letter) == unicodedata.ucd_3_2_0.category(letter)


LETTERS = st.characters(codec="utf-8", exclude_categories=["Cs", "Cn", "Co"], max_codepoint=0x2FFF)


@settings(max_examples=200, deadline=None)
@given(st.text(LETTERS.filter(is_the_same_in_every_unicode), max_size=60))
def test_agrees_on_any_text(tokenizer, reference, prompt: str) -> None:
    assert tokenizer([prompt], CPU).ids.tolist() == [theirs_of(reference, prompt)]


def test_the_mask_covers_the_real_tokens(tokenizer) -> None:
    tokens = tokenizer(["a cat", "cat " * 60], CPU)
    assert tokens.ids.shape == tokens.mask.shape == (2, 35)
    assert tokens.mask.sum(1).tolist() == [4, 35]


def test_the_unread_end_begins_at_a_word(tokenizer) -> None:
    prompt = " ".join(["red"] * 33 + ["fox", "in", "snow"])
    assert tokenizer.unread(prompt) == "fox in snow"
    assert tokenizer.unread(" ".join(["red"] * 33)) == ""
    assert tokenizer.unread("") == ""


def test_half_a_letter_is_read_as_one_that_nobody_knows(tokenizer) -> None:
    whole = tokenizer(["\N{REPLACEMENT CHARACTER} cat"], CPU).ids.tolist()
    assert tokenizer(["\ud800 cat"], CPU).ids.tolist() == whole
    assert tokenizer.unread("red " * 33 + "\ud800") == ""


def test_only_line_feeds_end_a_token(vocabulary: Path, tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_bytes(vocabulary.read_bytes().replace(b"\n[unused3]\n", "\n\u2028\x1d\n".encode()))
    assert WordPieceTokenizer(path, window=35).size == WordPieceTokenizer(vocabulary, window=35).size
    assert WordPieceTokenizer(path, window=35)(["a cat"], CPU).ids[0, 0] == 101


def test_a_file_that_is_no_vocabulary_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text("hello\nworld\n")
    with pytest.raises(WeightsError, match="no BERT vocabulary"):
        WordPieceTokenizer(path, window=35)
    with pytest.raises(WeightsError, match="cannot be read"):
        WordPieceTokenizer(tmp_path / "absent.txt", window=35)
