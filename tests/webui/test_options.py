import pytest

from imagereward_ext.settings import read, schema
from imagereward_ext.webui.options import (
    AS_IN_SETTINGS,
    OFF,
    ON,
    ScoringRequest,
    Settings,
    panel_settings,
    read_arguments,
    read_request,
)


def test_every_option_has_a_label_and_a_help_text():
    for kind in (ScoringRequest, Settings):
        labels = [entry.label for entry in schema(kind).values()]
        assert len(set(labels)) == len(labels)
        assert all(entry.help for entry in schema(kind).values())


def test_defaults_are_among_the_choices_and_in_range():
    for kind in (ScoringRequest, Settings):
        given = {entry.name: entry.default for entry in schema(kind).values()}
        assert read(kind, given).values == kind()
        assert read(kind, given).problems == ()


@pytest.mark.parametrize("limit", ["", None, "abc", "nan", float("nan"), "inf", True, [1]])
def test_a_limit_that_is_no_number_filters_nothing_and_says_so(limit):
    reading = read_request({"filter_low": True, "limit": limit})
    assert reading.values.filter_low is False
    assert len(reading.problems) == 1
    assert "Lower score limit" in reading.problems[0] and "nothing was filtered" in reading.problems[0]


@pytest.mark.parametrize("limit", ["0,5", "0.5", 0.5, " 0.5 "])
def test_a_limit_may_be_typed_with_a_comma(limit):
    reading = read_request({"filter_low": True, "limit": limit})
    assert (reading.values.limit, reading.values.filter_low, reading.problems) == (0.5, True, ())


@pytest.mark.parametrize(
    ("given", "always_on", "reported"),
    [
        ({"limit": 0.5}, True, True),
        ({"limit": 0.5, "until": 2}, True, True),  # the panel of every generation knows no tries
        ({"limit": 0.5}, False, True),
        ({"limit": 0.5, "until": 2}, False, False),
        ({"limit": 0.5, "hires_for_passing": True}, False, False),
        ({"limit": 0.5, "filter_low": True}, True, False),
        ({"limit": 0.5, "filter_low": False}, True, False),
    ],
)
def test_a_limit_that_nothing_uses_is_reported(given, always_on, reported):
    reading = read_arguments([given], always_on=always_on)
    assert reading.values == ScoringRequest(**given)
    assert any("needs 'filter_low': true" in problem for problem in reading.problems) is reported


def test_a_huge_limit_is_a_limit():
    assert read_request({"filter_low": True, "limit": 1e9}).values.limit == 1e9


def test_a_dictionary_may_be_partial_and_an_unknown_name_is_reported():
    reading = read_arguments([{"score": True, "limt": 0.5}], always_on=True)
    assert reading.values == ScoringRequest(score=ON)
    assert "'limt'" in reading.problems[0] and "limit" in reading.problems[0]


def test_arguments_in_order_may_be_partial():
    assert read_arguments([False], always_on=True).values == ScoringRequest(score=OFF)
    assert read_arguments([], always_on=True).values.score == AS_IN_SETTINGS
    names = [f.name for f in panel_settings(always_on=False)]
    arguments = [None] * len(names)
    for name, value in {"scorer": "CLIP", "filter_low": True, "limit": 1.5, "until": 3, "tries": 2}.items():
        arguments[names.index(name)] = value
    values = read_arguments(arguments[: names.index("tries") + 1], always_on=False).values
    assert (values.scorer, values.filter_low, values.limit, values.until, values.tries) == (
        "CLIP",
        True,
        1.5,
        3,
        2,
    )


def test_the_two_panels_differ_only_where_they_must():
    chosen = {f.name for f in panel_settings(always_on=False)}
    always_on = {f.name for f in panel_settings(always_on=True)}
    assert chosen - always_on == {"until", "tries", "hires_for_passing"}
    assert always_on - chosen == {"score"}


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("keep_best", 1.5, "whole number"),
        ("keep_best", -1, "between 0 and 64"),
        ("keep_best", "many", "number"),
        ("tries", 0, "between 1 and 1000"),
        ("rejected", "burn", "choose"),
        ("sort", "yes please", "true or false"),
    ],
)
def test_a_value_without_sense_keeps_the_default_and_is_reported(name, value, says):
    reading = read_request({name: value})
    assert reading.values == ScoringRequest()
    assert says in reading.problems[0]
