"""The command line as a whole: the list of commands, help, exit codes, what is imported when."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from imagereward_ext import __version__, cli
from tests.cli.conftest import Command, save

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
        (["score", "a.png", "--batch-size", "0"], "--batch-size: it is 0; it must be at least 1"),
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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
@pytest.mark.parametrize(
    "arguments",
    [["info", "{image}"], ["info", "{image}", "--csv"], ["models"], ["--help"], ["info", "--help"]],
)
def test_an_output_that_takes_nothing_is_one_line_and_code_1(gallery: Path, arguments: list[str]) -> None:
    arguments = [argument.format(image=gallery / "0.png") for argument in arguments]
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "imagereward_ext", *arguments],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert result.stderr == "error: the results cannot be written (No space left on device)\n"
    assert result.returncode == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize(
    "name", ["argparse", "imagereward_ext.cli.stopping", "imagereward_ext.cli.info", "PIL.Image"]
)
def test_ctrl_c_is_one_line_and_code_130_at_any_import(gallery: Path, name: str, times: int) -> None:
    code = (
        "import os, runpy, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {name!r}:\n"
        f"            for _ in range({times}): os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        f"sys.argv = ['imagereward_ext', 'info', {str(gallery)!r}]\n"
        "runpy.run_module('imagereward_ext', run_name='__main__')"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (130, "stopped\n")


@pytest.mark.parametrize("options", [[], ["--json"], ["--csv"]])
def test_nothing_that_a_file_says_reaches_the_terminal_as_a_command(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    hostile = "a\x1b[2J\x9b31m\u202etxt.exe\u2028 fox"
    save(tmp_path / f"{hostile}.png", prompt=hostile)
    (tmp_path / "b\nerror: no.png").write_bytes(b"")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    result = command("info", tmp_path, *options)
    said = result.out + result.err
    assert not {"\x1b", "\x9b", "\u202e", "\u2028"} & set(said)
    assert "a\\u001b[2J\\u009b31m\\u202etxt.exe\\u2028 fox" in said
    assert len(result.err.splitlines()) == 1
    if options == ["--json"]:
        assert {record.get("prompt") for record in json.loads(result.out)} == {None, f"{hostile} 0"}


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
