"""`rank`: images from best to worst."""

from __future__ import annotations

import argparse

from imagereward_ext.cli.exit_codes import ALL_GOOD, SOME_FAILED
from imagereward_ext.cli.image_options import add_image_options, add_scoring_options, chosen_images
from imagereward_ext.cli.output import Results, add_output_options
from imagereward_ext.cli.scorer_options import add_scorer_options, positive
from imagereward_ext.cli.scoring import COLUMNS, Outcome, Request, failures, score_files
from imagereward_ext.metadata.score_mark import rounded
from imagereward_ext.selection import ranked

HELP = "list images from best to worst"
DESCRIPTION = """\
List images from best to worst, each scored under its own prompt or all under --prompt.

  rank out/ --recursive --top 8
  rank a.png b.png c.png --prompt "a red fox in snow"
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_image_options(parser)
    parser.add_argument("--top", type=positive, metavar="N", help="list only the best N")
    add_scoring_options(parser)
    add_output_options(parser)
    add_scorer_options(parser)


def run(options: argparse.Namespace) -> int:
    """Score all, then print the ranking; images without a score have no place in it."""
    found = chosen_images(options)
    if not found.paths:
        return SOME_FAILED
    request = Request.from_options(options)
    outcomes: list[Outcome] = []
    with Results(options.output, ("place", *COLUMNS)) as results:
        try:
            score_files(request, found.paths, outcomes.append)
        finally:  # Ctrl-C shows what is known by then
            order = ranked([outcome.score for outcome in outcomes])[: options.top]
            width = len(str(len(order)))
            for place, position in enumerate(order, start=1):
                outcome = outcomes[position]
                line = f"{place:>{width}}  {rounded(outcome.score or 0.0):>8}  {outcome.path}"
                results.add({"place": place, **outcome.record(request.scorer)}, line)
    return SOME_FAILED if failures(outcomes, len(found.problems)) else ALL_GOOD
