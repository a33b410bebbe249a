"""The parameter line: read as the WebUI reads it, changed in one place only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagereward_ext.metadata import infotext

TYPICAL = (
    "a (red:1.2) fox, <lora:fur:0.8>\nsecond line\n"
    "Negative prompt: ugly, blurry\nbad hands\n"
    'Steps: 20, Sampler: DPM++ 2M, CFG scale: 7, Seed: 1, Size: 512x768, Lora hashes: "fur: 1a2b, b: 3c", Version: v1.10.1'
)
AWKWARD = st.text(st.sampled_from(list('ab1 ,:"\\\n-/([|é字😀\r\tא')), max_size=40)
PAIRS = st.dictionaries(
    st.sampled_from(["Steps", "Sampler", "CFG scale", "Seed", "Size", "Lora hashes", "X-1"]),
    AWKWARD.map(str.strip).filter(bool),
    min_size=3,
)


@st.composite
def infotexts(draw: st.DrawFn) -> str:
    """Texts as a WebUI and its extensions leave them, broken quotation included."""
    pairs = [f"{key}: {infotext.quote(value)}" for key, value in draw(PAIRS).items()]
    if draw(st.booleans()):
        pairs.insert(
            draw(st.integers(0, len(pairs))), f'Template: "{draw(st.sampled_from(["a", "b c", ""]))}'
        )
    parts = [draw(AWKWARD)]
    if draw(st.booleans()):
        parts.append("Negative prompt: " + draw(AWKWARD))
    if draw(st.booleans()):
        parts.append(", ".join(pairs))
    return "\n".join(parts) + draw(st.sampled_from(["", "\n", " "]))


def test_a_typical_text_is_read_whole() -> None:
    text = infotext.parse(TYPICAL)
    assert text.prompt == "a (red:1.2) fox, <lora:fur:0.8>\nsecond line"
    assert text.negative_prompt == "ugly, blurry\nbad hands"
    assert text.fields["Sampler"] == "DPM++ 2M"
    assert text.fields["Lora hashes"] == "fur: 1a2b, b: 3c"
    assert text.fields["Version"] == "v1.10.1"


@pytest.mark.parametrize(
    ("text", "prompt", "fields"),
    [
        ("", "", {}),
        ("just a prompt", "just a prompt", {}),
        ("a cat\nSteps: 20, Seed: 1", "a cat\nSteps: 20, Seed: 1", {}),  # two pairs are a prompt to the WebUI
        ("Steps: 20, Seed: 1, Size: 8x8", "", {"Steps": "20", "Seed": "1", "Size": "8x8"}),
        ("a\nSteps: 1, Seed: , Size: 8x8", "a", {"Steps": "1", "Size": "8x8"}),
        (
            'a\nSteps: 1, Seed: 2, T: "x',
            'a\nSteps: 1, Seed: 2, T: "x',
            {},
        ),  # a key has two characters or more
        (
            "\n\na cat\n\nSteps: 1, Seed: 2, Size: 8x8\n",
            "a cat\n",
            {"Steps": "1", "Seed": "2", "Size": "8x8"},
        ),
    ],
)
def test_the_last_line_holds_parameters_only_with_three_pairs(
    text: str, prompt: str, fields: dict[str, str]
) -> None:
    read = infotext.parse(text)
    assert (read.prompt, dict(read.fields)) == (prompt, fields)


def test_a_field_is_appended_to_the_line_and_nothing_else_changes() -> None:
    assert (
        infotext.with_fields(TYPICAL + "\n", {"ImageReward": "-0.5312"})
        == TYPICAL + ", ImageReward: -0.5312\n"
    )


def test_a_field_is_replaced_where_it_stands() -> None:
    text = infotext.with_fields(TYPICAL, {"Seed": "12345", "Sampler": "a, b"})
    assert text == TYPICAL.replace("Seed: 1,", "Seed: 12345,").replace("DPM++ 2M", '"a, b"')


def test_a_lone_quotation_mark_does_not_swallow_new_fields() -> None:
    text = 'a\nSteps: 1, Seed: 2, Size: 8x8, Template: "oh'
    changed = infotext.with_fields(text, {"Own prompt": ",then"})
    assert infotext.parse(changed).fields == {**infotext.parse(text).fields, "Own prompt": ",then"}


@pytest.mark.parametrize(
    ("line", "fields", "without"),
    [
        ('T1: "oh, Own prompt: "a, b", Lens: 6", Seed: 2', {"Own prompt": "fox"}, []),
        ('T1: "oh, Own prompt: fox, Seed: 2', {"Own prompt": ", then"}, []),
        ('T1: "oh, Own prompt: "a, b", Lens: 6", Seed: 2', {}, ["Own prompt"]),
        ("prose " * 30 + "Steps: 1, Seed: 2, Size: 3", {}, ["Steps"]),
    ],
)
def test_a_lone_quotation_mark_swallows_nothing_when_a_field_changes_or_goes(
    line: str, fields: dict[str, str], without: list[str]
) -> None:
    before = infotext.parse("a\n" + line).fields
    expected = {key: value for key, value in {**before, **fields}.items() if key not in without}
    changed = infotext.with_fields("a\n" + line + ", Version: 1", fields, without)
    assert infotext.parse(changed).fields == {**expected, "Version": "1"}


def test_half_a_letter_in_a_value_is_read_as_a_letter() -> None:
    text = 'a\nSteps: 1, Seed: 2, Text: "\\ud800 cat \\ud83e\\udd8a"'
    assert infotext.parse(text).fields["Text"] == "\N{REPLACEMENT CHARACTER} cat 🦊"


def test_a_score_line_below_the_parameters_is_read_past_and_moved_into_them() -> None:
    broken = TYPICAL + "\n ImageReward Score: 0.5300"
    assert infotext.parse(broken).fields == {**infotext.parse(TYPICAL).fields, "ImageReward Score": "0.5300"}
    assert infotext.parse(broken).prompt == infotext.parse(TYPICAL).prompt
    assert (
        infotext.with_fields(broken, {"Mood": "good"}) == TYPICAL + ", ImageReward Score: 0.5300, Mood: good"
    )
    assert infotext.without_fields(broken, ["ImageReward Score"]) == TYPICAL


@pytest.mark.parametrize("key", ["Steps", "Seed", "Version"])
def test_taking_a_field_out_leaves_the_others(key: str) -> None:
    fields = infotext.parse(TYPICAL).fields
    rest = infotext.parse(infotext.without_fields(TYPICAL, [key]))
    assert rest.fields == {name: value for name, value in fields.items() if name != key}
    assert rest.prompt == infotext.parse(TYPICAL).prompt


@given(infotexts(), AWKWARD)
def test_every_other_field_survives_and_writing_again_changes_nothing(text: str, value: str) -> None:
    before = infotext.parse(text)
    fields = {"ImageReward": "0.1", "ImageReward hash": "0123456789", "ImageReward prompt": value}
    written = infotext.with_fields(text, fields)
    after = infotext.parse(written)
    assert (after.prompt, after.negative_prompt) == (before.prompt, before.negative_prompt)
    assert after.fields == {**before.fields, **fields}
    assert infotext.with_fields(written, fields) == written


@given(AWKWARD)
def test_what_is_quoted_comes_back(value: str) -> None:
    line = f"Steps: 1, Value: {infotext.quote(value)}, Seed: 2"
    assert infotext.parse(line).fields["Value"] == value
