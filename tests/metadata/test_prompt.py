"""The prompt as it is scored: the syntax goes, the words stay."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagereward_ext.metadata.prompt import plain_prompt


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("a red fox in snow", "a red fox in snow"),
        ("a (cat:1.3) and a ((dog)) [mouse]", "a cat and a dog mouse"),
        ("a (black cat: 1.3 ), ([house]:0.5)", "a black cat, house"),
        ("(a (b (c:1.2):0.9))", "a b c"),
        ("<lora:fur:0.8>, a fox, <hypernet:x:1> <lyco:y:te=1:unet=0.5>, snow <lora:z:1>", "a fox, snow"),
        ("a fox, <lora:fur:1> snow", "a fox, snow"),
        ("a < b > c", "a < b > c"),
        (r"painting \(medium\), a\\b \[x\]", r"painting (medium), a\b [x]"),
        ("[mountain:lake:0.25] at [dawn:10]", "mountain lake at dawn"),
        ("[mountain::0.5] and [ oak : a tall tree : 7 ]", "mountain and oak a tall tree"),
        ("a[b:[c:d:2]:1]e", "ab c de"),
        ("[cow|horse] in a [red|blue|green] field", "cow horse in a red blue green field"),
        ("[fe|]male", "female"),
        ("[a|(b:1.1)]", "a b"),
        ("sky BREAK sea, BREAK, BREAKFAST", "sky sea, BREAKFAST"),
        ("a cat :1.2 AND a dog AND a hat:0.5", "a cat a dog a hat"),
        ("a cat AND blurry :-1 AND nothing:0", "a cat"),
        ("SAND and HAND, salt AND pepper", "SAND and HAND, salt pepper"),
        ("at 12:30, ratio 16:9, title: moon", "at 12:30, ratio 16:9, title: moon"),
        ("[a:b] (c: d)", "a:b c: d"),
        ("smile :) (unclosed [and more", "smile :) unclosed and more"),
        ("(a [b) c]", "a b c]"),
        ("  a\n cat,\t red ", "a cat, red"),
        ("قطة حمراء (צבע:1.2) 🦊‍❄️ (狐:1.1)", "قطة حمراء צבע 🦊‍❄️ 狐"),
        ("a fox \udcff and \ud83e", "a fox \N{REPLACEMENT CHARACTER} and \N{REPLACEMENT CHARACTER}"),
        ("<lora:only:1>", ""),
        ("", ""),
    ],
)
def test_the_words_stay(written: str, plain: str) -> None:
    assert plain_prompt(written) == plain


@given(st.text())
def test_a_text_without_syntax_keeps_every_word(text: str) -> None:
    text = re.sub(r"[\\()\[\]|:<>,]|AND|BREAK", "", text)
    assert plain_prompt(text) == " ".join(text.split())


@given(st.lists(st.sampled_from([*r"ab ()[]:|\<>,1.", "AND", "BREAK", "<lora:x:1>"])))
def test_no_text_breaks_it(pieces: list[str]) -> None:
    plain = plain_prompt("".join(pieces))
    assert plain == " ".join(plain.split())


def test_a_prompt_of_two_thousand_words_is_kept_whole() -> None:
    words = " ".join(f"(word{i}:1.1)" for i in range(2000))
    assert plain_prompt(words).split() == [f"word{i}" for i in range(2000)]
