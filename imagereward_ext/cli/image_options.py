"""Which images, and under which text: the same options for every command that scores files."""

from __future__ import annotations

import argparse
from pathlib import Path

from imagereward_ext.cli.messages import say
from imagereward_ext.errors import UsageError
from imagereward_ext.images import FoundImages, find_images
from imagereward_ext.metadata.prompt import plain_prompt


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """Declare what is looked at."""
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="image files, folders, or patterns such as out/*.png"
    )
    parser.add_argument(
        "-r", "--recursive", action="store_true", help="look into the folders of a folder too"
    )


def add_scoring_options(parser: argparse.ArgumentParser) -> None:
    """Declare how images are scored."""
    parser.add_argument(
        "--prompt",
        metavar="TEXT",
        help="score all images under this text (default: each under its own prompt, read from the file)",
    )
    parser.add_argument("--write", action="store_true", help="write each score into its image file")
    parser.add_argument(
        "--keep-times", action="store_true", help="with --write, leave each file's time of change as it was"
    )
    parser.add_argument(
        "--only-unscored",
        action="store_true",
        help="take the score that a file already holds, if this scorer with these weights gave it for this text",
    )


def chosen_images(options: argparse.Namespace, leave_out: tuple[Path, ...] = ()) -> FoundImages:
    """Find the images, and name the arguments that stand for none."""
    found = find_images(options.images, recursive=options.recursive, leave_out=leave_out)
    for problem in found.problems:
        say(f"error: {problem}")
    return found


def chosen_prompt(options: argparse.Namespace) -> str | None:
    """Return the text given for all images, None when each has its own."""
    if options.prompt is None:
        return None
    prompt = plain_prompt(options.prompt)
    if not prompt:
        raise UsageError(f"--prompt {options.prompt!r} has no words to score an image by")
    return prompt
