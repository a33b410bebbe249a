"""Declaring, checking and reading settings, whatever they are of."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass

import pytest

from imagereward_ext.errors import UsageError
from imagereward_ext.settings import (
    FieldError,
    Reading,
    check,
    openapi,
    parse,
    read,
    read_file,
    read_strictly,
    schema,
    setting,
    with_default,
)
from imagereward_ext.settings.flags import add_flags, given_flags
from imagereward_ext.settings.tables import markdown_table


@dataclass(frozen=True)
class Oven:
    """Settings of every kind."""

    degrees: int = setting(180, "Temperature", "of the air", group="Heat", low=50, high=250)
    power: float = setting(1.5, "Power", "in kW", group="Heat", above=0)
    share: float = setting(0.5, "Share", "of the power, 100 % is too much", low=0, below=1)
    fan: bool = setting(False, "Fan", "moves the air")
    light: bool = setting(True, "Light", "shines")
    mode: str = setting("Low", "Mode", "how it heats", choices=("Low", "High", "On"))
    dish: str = setting("", "Dish", "what is in it")
    guests: str = setting("you", "Guests", "who eats", several=True, aliases=("--guest",))
    minutes: int | None = setting(None, "Minutes", "until it ends", low=1)
    size: tuple[float, float] = setting((30.0, 40.0), "Size", "of the tray", above=0)

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class BigOven(Oven):
    degrees: int = with_default(Oven, "degrees", 200)


KNOWN = schema(Oven)


def test_the_schema_is_the_fields_in_their_order():
    assert list(KNOWN) == [
        *"degrees power share fan light mode dish guests minutes size".split(),
    ]
    about = KNOWN["degrees"]
    assert (about.kind, about.default, about.label, about.help) == (int, 180, "Temperature", "of the air")
    assert (KNOWN["minutes"].kind, KNOWN["minutes"].optional) == (int, True)
    assert (KNOWN["size"].kind, KNOWN["size"].length) == (float, 2)


def test_another_default_leaves_all_else_as_it_was():
    assert BigOven().degrees == 200
    assert schema(BigOven)["degrees"].label == "Temperature"
    with pytest.raises(FieldError, match="between 50 and 250"):
        BigOven(degrees=300)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("degrees", 20, "degrees is 20; it must be between 50 and 250"),
        ("degrees", "180", "degrees is '180'; expected a whole number"),
        ("degrees", True, "degrees is True; expected a whole number"),
        ("degrees", 180.0, "degrees is 180.0; expected a whole number"),
        ("degrees", None, "degrees is None; expected a whole number"),
        ("power", 0.0, "power is 0.0; it must be above 0"),
        ("power", float("nan"), "power is nan; expected a finite number"),
        ("share", 1, "share is 1.0; it must be at least 0 and below 1"),
        ("fan", 1, "fan is 1; expected true or false"),
        ("mode", "low", "mode is 'low'; choose one of Low, High, On"),
        ("dish", 3, "dish is 3; expected text"),
        ("minutes", 0, "minutes is 0; it must be at least 1"),
        ("size", 3.0, "size is 3.0; expected 2 numbers"),
        ("size", (1.0,), r"size is (1.0,); expected 2 numbers"),
        ("size", (1.0, -1.0), "size is -1.0; it must be above 0"),
    ],
)
def test_read_strictly_a_value_is_what_it_says_or_an_error_of_its_field(name, value, words):
    with pytest.raises(FieldError) as error:
        read_strictly(Oven, {name: value})
    assert (error.value.field, str(error.value)) == (name, words)
    assert isinstance(error.value, UsageError), "the command line says it in a line"


def test_what_is_right_passes():
    assert read_strictly(Oven, {"power": 2, "minutes": None, "size": [1, 2]}).power == 2
    assert read_strictly(Oven, {}) == Oven()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("degres", "there is no setting 'degres': did you mean degrees?"),
        ("xyz", "there is no setting 'xyz': there are degrees, dish,"),
    ],
)
def test_an_unknown_name_is_an_error_that_names_the_nearest(name, words):
    with pytest.raises(FieldError) as error:
        read_strictly(Oven, {name: 1})
    assert error.value.field == name
    assert str(error.value).startswith(words)


def test_an_error_is_said_with_the_readers_words():
    with pytest.raises(FieldError) as error:
        KNOWN["degrees"].check(0)
    assert error.value.spelled(lambda name: KNOWN[name].label).startswith("Temperature is 0;")


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("degrees", 180.0, 180),
        ("degrees", " 200 ", 200),
        ("degrees", "200.0", 200),
        ("degrees", "+200", 200),
        ("power", "0,5", 0.5),
        ("power", 2, 2.0),
        ("fan", "TRUE", True),
        ("fan", 0, False),
        ("mode", " high ", "High"),
        ("mode", True, "On"),
        ("dish", None, ""),
        ("guests", ["a", "b"], "a,b"),
        ("minutes", None, None),
        ("minutes", "7", 7),
        ("size", ["1", 2], (1.0, 2.0)),
    ],
)
def test_what_widgets_and_queries_hand_out_is_parsed(name, given, value):
    parsed = KNOWN[name].parse(given)
    assert (parsed, type(parsed)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("degrees", "many", "degrees is 'many'; type a whole number"),
        ("degrees", "1,000", "degrees is '1,000'; type a whole number"),
        ("degrees", "1.000", "degrees is '1.000'; type a whole number"),
        ("degrees", "1_000", "degrees is '1_000'; type a whole number"),
        ("degrees", "180,5", "degrees is '180,5'; type a whole number"),
        ("degrees", "", "degrees is empty; type a whole number"),
        ("degrees", 180.5, "degrees is 180.5; it must be a whole number"),
        ("power", True, "power is empty; type a number such as 0.5"),
        ("power", "nan", "power is 'nan'; type a number such as 0.5"),
        ("fan", "perhaps", "fan is 'perhaps'; it must be true or false"),
        ("mode", "off", "mode is 'off'; choose one of Low, High, On"),
        ("dish", 3, "dish is 3; expected text"),
        ("size", "12", "size is 12.0; expected 2 numbers"),
    ],
)
def test_what_cannot_be_parsed_is_told(name, given, words):
    with pytest.raises(FieldError) as error:
        KNOWN[name].parse(given)
    assert str(error.value) == words


def test_every_problem_is_told_at_once():
    values, errors = parse(KNOWN, {"degrees": "200", "power": "much", "fann": 1}, "there is no knob")
    assert values == {"degrees": 200}
    assert list(errors) == ["power", "fann"]
    assert str(errors["fann"]) == "there is no knob 'fann': did you mean fan?"


def test_read_leniently_a_value_without_sense_is_its_default_and_told_by_its_label():
    reading = read(Oven, {"degrees": 9, "dish": 5, "guests": " me ", "mode": True, "x": 1})
    assert reading.values == Oven(dish="5", guests="me", mode="On")
    assert reading.problem_of["degrees"] == "Temperature is 9; it must be between 50 and 250"
    assert reading.problems[1].startswith("there is no setting 'x'")
    assert read(Oven, {}) == Reading(Oven())


def test_a_file_of_settings_is_an_object(tmp_path):
    file = tmp_path / "oven.json"
    with pytest.raises(UsageError, match="cannot be read as settings"):
        read_file(file)
    file.write_text("[" * 100_000)
    with pytest.raises(UsageError, match="cannot be read as settings"):
        read_file(file)
    file.write_text("[]")
    with pytest.raises(UsageError, match="expected a JSON object"):
        read_file(file)
    file.write_text('{"fan": true}')
    assert read_file(file) == {"fan": True}


def parsed(*words, **more):
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_flags(parser, KNOWN.values(), **more)
    return parser.parse_args(words)


def test_only_flags_that_are_given_count():
    words = "--degrees 90 --no-light --guest a --guests b --size 1 2 --mode High --share 0,25".split()
    assert given_flags(parsed(*words, fill_in=False), KNOWN.values()) == {
        "degrees": 90,
        "share": 0.25,
        "light": False,
        "mode": "High",
        "guests": "a,b",
        "size": (1.0, 2.0),
    }
    assert given_flags(parsed(fill_in=False), KNOWN.values()) == {}


def test_flags_that_are_not_given_may_be_their_defaults():
    assert Oven(**vars(parsed())) == Oven()


def test_a_wrong_flag_is_told_with_its_range():
    with pytest.raises(argparse.ArgumentError, match=r"--degrees: it is 20; it must be between 50 and 250"):
        parsed("--degrees", "20")
    with pytest.raises(argparse.ArgumentError, match="--mode: it is 'hot'; choose one of Low, High, On"):
        parsed("--mode", "hot")


def test_the_help_of_a_flag_tells_its_default_once():
    parser = argparse.ArgumentParser()
    add_flags(parser, KNOWN.values())
    text = " ".join(parser.format_help().split())
    for words in (
        "Heat:",
        "of the air (default: 180)",
        "shines (default: on)",
        "what is in it (default: none)",
        "of the power, 100 % is too much (default: 0.5)",
    ):
        assert words in text
    assert text.count("default: on") == 1
    assert "default: True" not in text


def test_the_routes_schema_tells_kind_range_and_default():
    described = openapi.properties(KNOWN.values())
    assert described["degrees"] == {
        "type": "integer",
        "minimum": 50,
        "maximum": 250,
        "description": "Temperature: of the air",
        "default": 180,
    }
    assert described["power"]["exclusiveMinimum"] == 0
    assert described["mode"]["enum"] == ["Low", "High", "On"]
    assert described["size"]["items"] == {"type": "number", "exclusiveMinimum": 0}
    json.dumps(described)


@dataclass(frozen=True)
class NewerOven(Oven):
    glow: int = setting(3, "Glow", "how red it gets", low=0, high=9)


def test_a_new_setting_is_one_line_and_appears_everywhere():
    """A flag, a route's field, a row of the documents: all from the line that declares it."""
    known = schema(NewerOven)
    parser = argparse.ArgumentParser()
    add_flags(parser, known.values())
    assert parser.parse_args(["--glow", "5"]).glow == 5
    assert openapi.properties(known.values())["glow"]["maximum"] == 9
    assert "| `glow` | Glow | 3 | between 0 and 9 | how red it gets |\n" in markdown_table(known.values())
    assert read(NewerOven, {"glow": "4"}).values.glow == 4


def test_a_new_setting_is_a_widget_too():
    gr = pytest.importorskip("gradio")
    from imagereward_ext.webui.page.widgets import component

    with gr.Blocks():
        widget = component(schema(NewerOven)["glow"], "oven-glow")
    assert (type(widget), widget.label, widget.value) == (gr.Number, "Glow", 3)
    assert (widget.elem_id, widget.info) == ("oven-glow", "How red it gets (0 to 9).")
