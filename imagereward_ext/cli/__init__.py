"""The command line: `python -m imagereward_ext COMMAND ...`.

Results go to standard output, everything else to standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn, Protocol, cast

from imagereward_ext import __version__
from imagereward_ext.cli.exit_codes import ALL_GOOD, BAD_USAGE, SOME_FAILED, STOPPED
from imagereward_ext.cli.messages import OutputError, say, show
from imagereward_ext.cli.stopping import Stopped
from imagereward_ext.errors import ImageRewardError, UsageError
from imagereward_ext.memory import LARGE_PAGES

PROGRAM = "python -m imagereward_ext"
COMMANDS = ("score", "rank", "filter", "info", "models", "train-reward", "train", "compare", "evaluate")
"""Each is a module of this room under its own name (with _ for -), imported only when it is called."""


class CommandModule(Protocol):
    """What such a module has."""

    HELP: str
    """One line for the list of commands."""
    DESCRIPTION: str
    """What `COMMAND --help` begins with, its line breaks kept."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare its arguments."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Do the work; return one of the exit codes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. What we raise on purpose is one line, not a traceback."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    _make_output_safe()
    os.environ.update({**LARGE_PAGES, **os.environ})
    try:
        return _run(arguments)
    except UsageError as error:
        say(f"error: {error}")
        return BAD_USAGE
    except OutputError as error:
        say(f"error: {error}")
        _give_up_output()
        return SOME_FAILED
    except ImageRewardError as error:
        say(f"error: {error}")
        return SOME_FAILED
    except Stopped as stopped:
        say(f"stopped: {stopped}")
        return STOPPED
    except KeyboardInterrupt:
        say("stopped")
        return STOPPED
    except BrokenPipeError:  # whoever read our output has seen enough (`… | head`)
        _give_up_output()
        return ALL_GOOD


def _run(arguments: Sequence[str]) -> int:
    if not arguments:
        for line in _overview().split("\n"):
            say(line)
        return BAD_USAGE
    name, *rest = arguments
    if name in ("-h", "--help", "help"):
        show(*_overview().split("\n"))
        return ALL_GOOD
    if name == "--version":
        show(__version__)
        return ALL_GOOD
    if name not in COMMANDS:
        say(f"error: there is no command {name!r}{_similar(name)}; the commands are {', '.join(COMMANDS)}")
        return BAD_USAGE
    command = load_command(name)
    return command.run(parse(name, rest))


def load_command(name: str) -> CommandModule:
    """Import a command's module."""
    return cast(CommandModule, import_module(f"{__name__}.{name.replace('-', '_')}"))


def parse(name: str, arguments: Sequence[str]) -> argparse.Namespace:
    """Read the arguments of one command; a wrong one ends the program with exit code 2."""
    command = load_command(name)
    parser = _Parser(
        prog=f"{PROGRAM} {name}",
        description=command.DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_arguments(parser)
    return parser.parse_args(arguments)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in a line; the whole usage would bury it."""
        say(f"error: {message} ({self.prog} --help shows all options)")
        sys.exit(BAD_USAGE)

    def print_help(self, file: Any = None) -> None:
        """Print the help like every other result."""
        show(*self.format_help().rstrip("\n").split("\n"))


def _give_up_output() -> None:
    """Keep Python from complaining at its end about output that nobody takes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {load_command(name).HELP}" for name in COMMANDS]
    return "\n".join(
        [
            f"usage: {PROGRAM} COMMAND ...",
            "",
            "Say how much people would like an image for its prompt, and train towards better ones.",
            "",
            "commands:",
            *lines,
            "",
            f"{PROGRAM} COMMAND --help says more about one of them.",
            "Exit codes: 0 all good, 1 something failed and is listed, 2 wrong usage, 130 stopped by Ctrl-C.",
        ]
    )


def _similar(name: str) -> str:
    close = difflib.get_close_matches(name, COMMANDS, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _make_output_safe() -> None:
    """Keep a name or prompt that the terminal's encoding lacks from ending the program."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the shell closed it (`>&-`)
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - until the end
    for stream in (sys.stdout, sys.stderr):
        # A stream that is not a text file of the system (a test's, a host's) can take anything.
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    # Pillow's remarks name no file; what keeps an image from being scored is said by us, with its name.
    warnings.filterwarnings("ignore", module="PIL")
