"""A score among the parameters: whose it is, what it was given for, and when it still holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagereward_ext.errors import MetadataError
from imagereward_ext.metadata import infotext
from imagereward_ext.metadata.score_mark import (
    ScoreMark,
    find_mark,
    find_marks,
    rounded,
    with_mark,
    without_marks,
)
from tests.metadata.test_infotext import AWKWARD, TYPICAL, infotexts

MARK = ScoreMark("ImageReward", -0.53119, "1a2b3c4d5e")


def test_a_mark_is_two_more_fields() -> None:
    assert (
        with_mark(TYPICAL, MARK, "a fox") == TYPICAL + ", ImageReward: -0.5312, ImageReward hash: 1a2b3c4d5e"
    )


def test_another_text_than_the_images_own_stands_beside_the_score() -> None:
    mark = ScoreMark("ImageReward", 1.0, "1a2b3c4d5e", "a fox, red")
    text = with_mark(TYPICAL, mark, "a fox, red")
    assert text.endswith(
        'ImageReward: 1.0000, ImageReward hash: 1a2b3c4d5e, ImageReward prompt: "a fox, red"'
    )
    assert find_mark(text, "ImageReward") == mark


def test_a_new_mark_replaces_all_of_the_old_one() -> None:
    old = ScoreMark("ImageReward", 1.0, "ffffffffff", "another text")
    assert with_mark(with_mark(TYPICAL, old, "another text"), MARK, "a fox") == with_mark(
        TYPICAL, MARK, "a fox"
    )


@pytest.mark.parametrize("text", ["", "a cat", "a cat\nSteps: 20, Seed: 1", "a cat\nNegative prompt: dog\n"])
def test_without_parameters_the_mark_has_the_three_pairs_that_make_a_line(text: str) -> None:
    marked = with_mark(text, MARK, "a cat")
    assert infotext.has_parameter_line(marked)
    assert infotext.parse(marked).prompt == infotext.parse(text).prompt
    assert find_mark(marked, "ImageReward") == ScoreMark("ImageReward", -0.5312, "1a2b3c4d5e", "a cat")


def test_scorers_do_not_touch_each_other() -> None:
    other = ScoreMark("My Model", 2.5, "abcdefabcd")
    text = with_mark(with_mark(TYPICAL, MARK, "a"), other, "a")
    assert [mark.label for mark in find_marks(text)] == ["ImageReward", "My Model"]
    assert find_mark(text, "My Model") == other


def test_a_checkpoints_hash_is_no_score() -> None:
    line = "Steps: 1, Model hash: 45dee52b11, Model: 1.5, VAE hash: 735e4c3a44, VAE: 8.4, Seed: 1"
    assert find_marks("a cat\n" + line) == []


def test_the_older_line_of_the_image_reward_package_is_a_score_without_a_hash() -> None:
    old = TYPICAL + "\n ImageReward Score: 0.5300"
    assert find_marks(old) == [ScoreMark("ImageReward", 0.53)]
    assert with_mark(old, MARK, "a fox") == with_mark(TYPICAL, MARK, "a fox")
    other = with_mark(old, ScoreMark("My Model", 2.5, "abcdefabcd"), "a fox")
    assert find_mark(other, "ImageReward") == ScoreMark("ImageReward", 0.53)


@pytest.mark.parametrize(
    ("label", "digest", "prompt", "holds"),
    [
        ("ImageReward", "1a2b3c4d5e", "a fox", True),
        ("Other", "1a2b3c4d5e", "a fox", False),
        ("ImageReward", "ffffffffff", "a fox", False),
        ("ImageReward", "1a2b3c4d5e", "a dog", False),
    ],
)
def test_a_mark_holds_for_label_weights_and_text(label: str, digest: str, prompt: str, holds: bool) -> None:
    assert MARK.answers(label, digest, prompt, own_prompt="a fox") is holds
    with_its_text = ScoreMark("ImageReward", 0.1, "1a2b3c4d5e", "a fox")
    assert with_its_text.answers(label, digest, prompt, own_prompt="whatever") is holds


def test_a_mark_without_a_hash_never_holds() -> None:
    assert not ScoreMark("ImageReward", 0.1).answers("ImageReward", "", "a fox", "a fox")


@pytest.mark.parametrize(("value", "text"), [(-0.53119, "-0.5312"), (-0.00001, "0.0000"), (3, "3.0000")])
def test_numbers_have_four_decimals_and_zero_no_sign(value: float, text: str) -> None:
    assert rounded(value) == text


@pytest.mark.parametrize("label", ["", "x", "a, b", "a: b", "a\nb", "x" * 94])
def test_a_label_that_would_break_the_line_is_refused(label: str) -> None:
    with pytest.raises(MetadataError, match="label"):
        ScoreMark(label, 0.1)


def test_labels_have_room_for_all_keys_of_their_mark() -> None:
    mark = ScoreMark("x" * 93, 0.5, "1a2b3c4d5e", "a: b")
    assert find_marks(with_mark(TYPICAL, mark, "a: b")) == [mark]
    assert find_marks(f"a\nSteps: 1, {'x' * 94}: 0.5, {'x' * 94} hash: 1a2b3c4d5e, Seed: 2") == []


def test_taking_the_marks_out_leaves_the_text_as_it_was() -> None:
    text = with_mark(TYPICAL, ScoreMark("My Model", 2.5, "abcdefabcd", "a, b"), "a, b")
    assert without_marks(with_mark(text, MARK, "a fox")) == TYPICAL
    assert without_marks(TYPICAL + "\nImageReward Score: 0.5") == TYPICAL


@pytest.mark.parametrize("text", ["ur:,ur:,k :e ,", "le:,ur:,ze:7 ,", '"fur: 1a,ze: , X-1/2:"  ,'])
def test_taking_a_mark_out_leaves_a_value_its_blanks(text):
    """Found by fuzzing: without the comma behind it, the line's end would take them."""
    assert without_marks(with_mark(text, MARK, "a fox")) == text


def test_a_number_beyond_all_bounds_is_no_mark() -> None:
    assert find_marks(f"a fox\nSteps: 1, Seed: 2, ImageReward: {'9' * 400}") == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_never_written(value: float) -> None:
    with pytest.raises(MetadataError, match="no score"):
        ScoreMark("ImageReward", value)


@given(infotexts(), st.floats(-9, 9), AWKWARD | st.none(), AWKWARD)
def test_written_marks_come_back_and_writing_again_changes_nothing(
    text: str, value: float, prompt: str | None, own: str
) -> None:
    mark = ScoreMark("ImageReward", value, "1a2b3c4d5e", prompt)
    scored = own if prompt is None else prompt
    written = with_mark(text, mark, scored)
    found = find_mark(written, "ImageReward")
    assert found is not None
    assert (found.value, found.digest) == (round(value, 4) + 0.0, "1a2b3c4d5e")
    assert found.answers("ImageReward", "1a2b3c4d5e", scored, own_prompt=own)
    assert with_mark(written, mark, scored) == written
    before, after = infotext.parse(text), infotext.parse(written)
    assert (after.prompt, after.negative_prompt) == (before.prompt, before.negative_prompt)
    assert {key: after.fields.get(key) for key in before.fields} == dict(before.fields)


@given(infotexts(), AWKWARD)
def test_two_scorers_writing_in_turns_settle(text: str, own: str) -> None:
    other = ScoreMark("My Model", 2.5, "abcdefabcd")
    both = with_mark(with_mark(text, MARK, own), other, own)
    assert with_mark(with_mark(both, MARK, own), other, own) == both
