"""Which scorer, where it runs, where its weights come from: the same options for every command that scores."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from imagereward_ext.cli.messages import say
from imagereward_ext.compute import Compute
from imagereward_ext.settings import schema
from imagereward_ext.settings.flags import add_flags
from imagereward_ext.weights import locate
from imagereward_ext.weights.catalogue import DEFAULT
from imagereward_ext.weights.spec import ScorerSpec

if TYPE_CHECKING:
    from imagereward_ext.scorers import Scorer


def add_scorer_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    group = parser.add_argument_group("scorer")
    group.add_argument(
        "--scorer",
        default=DEFAULT,
        metavar="NAME",
        help="a name that `models` lists, a model folder or a weights file (default: %(default)s)",
    )
    add_flags(group, schema(Compute).values())
    add_weights_options(group)


def add_weights_options(group: argparse._ActionsContainer, *, can_download: bool = True) -> None:
    """Declare where weights are looked for."""
    also = ", and download to here" if can_download else ""
    group.add_argument(
        "--weights-dir", type=Path, metavar="FOLDER", help=f"look for weights here first{also}"
    )
    if can_download:
        group.add_argument("--no-download", action="store_true", help="fail rather than download weights")


def load_chosen_scorer(options: argparse.Namespace) -> Scorer:
    """Load what the options name; downloads show a bar only where there is a terminal."""
    locate.resolve(options.scorer, options.weights_dir)  # a wrong name is told before torch takes its seconds
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from imagereward_ext.scorers import load_scorer

    spec = chosen_spec(options, options.scorer)
    return load_scorer(spec, compute=chosen_compute(options), report=say)


def chosen_spec(options: argparse.Namespace, scorer: str) -> ScorerSpec:
    """Say which scorer is meant, with its files where the options say."""
    return ScorerSpec(scorer, options.weights_dir, not options.no_download)


def chosen_compute(options: argparse.Namespace) -> Compute:
    """Say where it runs."""
    return Compute(options.device, options.precision, options.batch_size)


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return number
