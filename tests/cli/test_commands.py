"""The command line as a whole: the list of commands, help, exit codes, what is imported when."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from imagereward_ext import __version__, cli
from tests.cli.conftest import Command

ROOT = Path(__file__).resolve().parents[2]


def test_the_list_of_commands(command: Command) -> None:
    result = command("--help")
    assert result.code == 0
    assert all(f"\n  {name} " in result.out for name in cli.COMMANDS)
    assert command().code == 2
    assert command("--version").out.strip() == __version__


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_says_what_it_does(command: Command, name: str) -> None:
    result = command(name, "--help")
    assert result.code == 0
    assert cli.load_command(name).DESCRIPTION.splitlines()[0] in result.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["scor"], "there is no command 'scor' (did you mean score?)"),
        (["score"], "the following arguments are required: IMAGE"),
        (["score", "a.png", "--json", "--csv"], "--csv: not allowed with argument --json"),
        (["score", "a.png", "--nope"], "unrecognized arguments: --nope"),
        (["score", "a.png", "--batch-size", "0"], "'0' is not a whole number of at least 1"),
        (["rank", "a.png", "--top", "x"], "'x' is not a whole number of at least 1"),
        (["filter", "a.png", "--limit", "0,5"], "'0,5' is not a number (such as 0.5 or -1)"),
        (["filter", "a.png", "--limit", "nan"], "'nan' is not a number"),
        (["filter", "a.png"], "say what to keep: --limit SCORE, --best N, or both"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(command: Command, arguments: list[str], words: str) -> None:
    result = command(*arguments)
    assert (result.code, result.out) == (2, "")
    (line,) = result.err.splitlines()
    assert line.startswith("error: ")
    assert words in line


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--scorer", "nope"], 2, "no scorer is called 'nope'"),
        (
            ["--no-download"],
            1,
            "ImageReward.pt is not on this machine and downloading is off. Get it from https://",
        ),
        (["--prompt", "<lora:x:1>"], 2, "--prompt '<lora:x:1>' has no words to score an image by"),
    ],
)
def test_what_keeps_a_scorer_from_loading_is_one_line(
    command: Command, gallery: Path, options: list[str], code: int, words: str
) -> None:
    result = command("score", gallery, *options)
    assert (result.code, result.out) == (code, "")
    assert words in result.err
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["models"],
        ["info", "{image}"],
        ["score", "--help"],
        ["score", "{image}", "--scorer", "nope"],
    ],
)
def test_what_needs_no_model_loads_none(gallery: Path, arguments: list[str]) -> None:
    arguments = [argument.format(image=gallery / "0.png") for argument in arguments]
    code = (
        "import sys; from imagereward_ext.cli import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.skipif(sys.platform == "win32", reason="head is not there")
def test_a_reader_that_has_seen_enough_is_no_error(gallery: Path) -> None:
    images = " ".join([str(gallery / "0.png")] + [str(gallery / f"{n}.png") for n in range(6)] * 40)
    line = f'"{sys.executable}" -m imagereward_ext info {images} {gallery}/* --json | head -n 1'
    result = subprocess.run(["sh", "-c", line], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("[{")
    assert result.stderr == ""


def test_names_that_the_terminal_cannot_show_do_not_end_the_program(gallery: Path) -> None:
    image = (gallery / "0.png").rename(gallery / "狐狸🦊.png")
    result = subprocess.run(
        [sys.executable, "-m", "imagereward_ext", "info", image, "--json"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        env={"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
    )
    assert b"\\u72d0\\u72f8" in result.stdout
