"""`compare`: make the same images with and without a LoRA, and say which are better."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagereward_ext.cli.exit_codes import ALL_GOOD
from imagereward_ext.cli.messages import say, show
from imagereward_ext.cli.scorer_options import add_weights_options
from imagereward_ext.settings import schema
from imagereward_ext.settings.flags import add_flags, given_flags
from imagereward_ext.weights.catalogue import DEFAULT

if TYPE_CHECKING:
    from imagereward_ext.evaluation.comparison import ComparisonRequest

HELP = "compare a checkpoint with and without LoRAs"
DESCRIPTION = """\
Make images of the same prompts and seeds with a base model and with LoRAs, score them, and say who wins.

  compare model.safetensors nicer.safetensors --prompts held-out.txt --lora-weight 0.5 --lora-weight 1
  compare model.safetensors one.safetensors two.safetensors --prompts held-out.txt --scorer CLIP --scorer Aesthetic

Use the settings that you make images with, and at least one scorer that the LoRA was not trained with. Writes
comparison.md, .json, .csv and a contact sheet.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    from imagereward_ext.evaluation.comparison import ComparisonRequest

    add = parser.add_argument
    add("base", type=Path, metavar="BASE", help="checkpoint file or diffusers folder")
    add("loras", type=Path, nargs="+", metavar="LORA", help="LoRA files")
    add("--prompts", type=Path, required=True, metavar="FILE", help="one prompt per line, or a JSON list")
    add("--output", type=Path, default=Path("comparison"), metavar="FOLDER", help="(default: %(default)s)")
    add("--scorer", action="append", metavar="NAME", help=f"may be given several times (default: {DEFAULT})")
    add(
        "--lora-weight",
        action="append",
        type=float,
        metavar="W",
        help="may be given several times (default: 1)",
    )
    add("--vae", type=Path, metavar="FILE", help="another VAE")
    add_flags(parser, schema(ComparisonRequest).values())
    add_weights_options(parser.add_argument_group("weights"))


def run(arguments: argparse.Namespace) -> int:
    """Compare, print and write the report."""
    from imagereward_ext.evaluation.comparison import compare

    report, page = compare(request_of(arguments), say, progress=_Bar())
    show(*report.text().split("\n"))
    say(f"Wrote {page}")
    return ALL_GOOD


def request_of(arguments: argparse.Namespace) -> ComparisonRequest:
    """Return what the command line asks for."""
    from imagereward_ext.diffusion.prompts import read_prompts
    from imagereward_ext.evaluation.comparison import ComparisonRequest

    return ComparisonRequest(
        base=arguments.base,
        loras=tuple(arguments.loras),
        prompts=tuple(read_prompts(arguments.prompts)),
        output=arguments.output,
        scorers=tuple(arguments.scorer or [DEFAULT]),
        weights=tuple(arguments.lora_weight or [1.0]),
        vae=arguments.vae,
        scorer_folder=arguments.weights_dir,
        download=not arguments.no_download,
        **given_flags(arguments, schema(ComparisonRequest).values()),
    )


class _Bar:
    """A progress bar per variant."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._label = ""

    def __call__(self, label: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if self._bar is None or self._label != label:
            self._label = label
            self._bar = tqdm(desc=label, total=total, unit="image", disable=None)
        self._bar.update(done - self._bar.n)
        if done == total:
            self._bar.close()
            self._bar = None
