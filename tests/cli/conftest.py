"""A folder of images, and the command line as a function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL.PngImagePlugin import PngInfo

from imagereward_ext.cli import main
from tests.tiny import picture

PARAMETERS = "Negative prompt: ugly\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 48x40"


class Result(NamedTuple):
    """What a command gave back."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("error: ")]


Command = Callable[..., Result]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command line in this process."""

    def run(*arguments: object) -> Result:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as exit:  # argparse ends the program for a wrong option
            code = int(exit.code or 0)
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture
def scoring(command: Command, tiny_folder: Path) -> Command:
    """Run a command that scores, with a small scorer."""

    def run(name: str, *arguments: object) -> Result:
        return command(name, *arguments, "--scorer", tiny_folder, "--device", "cpu")

    return run


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    """Six images with prompts, as a WebUI leaves them."""
    folder = tmp_path / "out"
    folder.mkdir()
    for number in range(6):
        save(folder / f"{number}.png", number)
    return folder


def save(path: Path, seed: int = 0, prompt: str | None = "a (red:1.2) fox, <lora:fur:1> in snow") -> Path:
    """Save a picture, with the WebUI's text unless there is no prompt."""
    info = PngInfo()
    if prompt is not None:
        info.add_text("parameters", f"{prompt} {seed}\n{PARAMETERS}")
    picture(seed).save(path, pnginfo=info)
    return path
