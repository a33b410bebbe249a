"""`score`: a number for each image."""

from __future__ import annotations

import argparse

from imagereward_ext.cli.exit_codes import ALL_GOOD, SOME_FAILED
from imagereward_ext.cli.image_options import add_image_options, add_scoring_options, chosen_images
from imagereward_ext.cli.output import Results, add_output_options
from imagereward_ext.cli.scorer_options import add_scorer_options
from imagereward_ext.cli.scoring import COLUMNS, Outcome, Request, failures, score_files
from imagereward_ext.metadata.score_mark import rounded

HELP = "say how much people would like each image for its prompt"
DESCRIPTION = """\
Score images: about 0 is average, 1 is good, -1 is weak, higher is better.

Each image is scored under its own prompt, which is read from the file (what a Stable Diffusion WebUI, ComfyUI or
NovelAI wrote, or a .txt of the same name beside it). The prompt's markup, such as (cat:1.3) or <lora:...>, is left
out and its words stay.

  score out/*.png
  score a.png b.webp --prompt "a red fox in snow" --write --json
  score out/ --recursive --write --only-unscored        a second run does only what is missing
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_image_options(parser)
    add_scoring_options(parser)
    add_output_options(parser)
    add_scorer_options(parser)


def run(options: argparse.Namespace) -> int:
    """Print one line for each image, in the order given, as soon as it is known."""
    found = chosen_images(options)
    if not found.paths:
        with Results(options.output, COLUMNS):
            return SOME_FAILED
    request = Request.from_options(options)
    outcomes: list[Outcome] = []
    with Results(options.output, COLUMNS) as results:

        def show(outcome: Outcome) -> None:
            outcomes.append(outcome)
            lines = [] if outcome.score is None else [f"{rounded(outcome.score):>8}  {outcome.path}"]
            results.add(outcome.record(request.scorer), *lines)

        score_files(request, found.paths, show)
    return SOME_FAILED if failures(outcomes, len(found.problems)) else ALL_GOOD
