"""`filter`: keep the good images, put the others out of the way."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

from imagereward_ext import relocation
from imagereward_ext.cli.exit_codes import ALL_GOOD, SOME_FAILED
from imagereward_ext.cli.image_options import add_image_options, add_scoring_options, chosen_images
from imagereward_ext.cli.messages import say
from imagereward_ext.cli.output import Results, add_output_options
from imagereward_ext.cli.scorer_options import add_scorer_options, positive
from imagereward_ext.cli.scoring import COLUMNS, Outcome, Request, failures, score_files
from imagereward_ext.cli.stopping import reporting_stops, uninterrupted
from imagereward_ext.errors import ImageError, UsageError
from imagereward_ext.metadata.score_mark import rounded
from imagereward_ext.selection import kept
from imagereward_ext.wording import counted

HELP = "keep the images above a limit or the best few, move the others away"
DESCRIPTION = """\
Say which images to keep: those whose score reaches --limit, or the --best few, or both.

Without --move-to and --copy-to nothing is touched. An image that could not be scored stays where it is.

  filter out/ --limit 0.0                                  only say which
  filter out/ --limit 0.0 --move-to out/rejected           move the weak ones away
  filter out/ --best 10 --copy-to best --dry-run           say what would be copied
"""
_COLUMNS = (*COLUMNS, "kept", "moved_to", "copied_to")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_image_options(parser)
    rule = parser.add_argument_group("which to keep")
    rule.add_argument("--limit", type=limit, metavar="SCORE", help="keep what scores at least this")
    rule.add_argument("--best", type=positive, metavar="N", help="keep the N best")
    places = parser.add_argument_group(
        "what to do", "An existing file is never overwritten; a .txt beside an image goes along."
    )
    places.add_argument(
        "--move-to", type=Path, metavar="FOLDER", help="move the images that are not kept here"
    )
    places.add_argument("--copy-to", type=Path, metavar="FOLDER", help="copy the images that are kept here")
    places.add_argument("--dry-run", action="store_true", help="only say what would be moved and copied")
    add_scoring_options(parser)
    add_output_options(parser)
    add_scorer_options(parser)


def run(options: argparse.Namespace) -> int:
    """Score all, then say which are kept, and move or copy."""
    if options.limit is None and options.best is None:
        raise UsageError("say what to keep: --limit SCORE, --best N, or both")
    # What was put there by an earlier run is not judged again.
    leave_out = tuple(folder for folder in (options.move_to, options.copy_to) if folder)
    found = chosen_images(options, leave_out)
    if not found.paths:
        with Results(options.output, _COLUMNS):
            return SOME_FAILED if found.problems else ALL_GOOD
    request = Request.from_options(options)
    outcomes: list[Outcome] = []
    score_files(request, found.paths, outcomes.append)
    chosen = set(kept([outcome.score for outcome in outcomes], limit=options.limit, count=options.best))
    failed = failures(outcomes, len(found.problems))
    done = 0
    with (
        Results(options.output, _COLUMNS) as results,
        reporting_stops(lambda: f"{done:,} of {counted(len(outcomes), 'image')} sorted, all files are whole"),
    ):
        for position, outcome in enumerate(outcomes):
            with uninterrupted():
                verdict = _verdict(options, outcome, position in chosen)
                done += 1
            failed += bool(verdict.error and not outcome.error)
            results.add(
                {**outcome.record(request.scorer), **verdict.record()},
                *verdict.lines(outcome, options.dry_run),
            )
    return SOME_FAILED if failed else ALL_GOOD


def limit(text: str) -> float:
    """Read a score."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number (such as 0.5 or -1)")
    return value


@dataclass(frozen=True)
class _Verdict:
    """What is done with one image."""

    is_kept: bool | None
    """None when it has no score to judge by."""
    moved_to: Path | None = None
    copied_to: Path | None = None
    error: str = ""

    def record(self) -> dict[str, object]:
        """Return what is added to the scoring record."""
        record: dict[str, object] = {"kept": self.is_kept}
        record |= {key: str(place) for key in ("moved_to", "copied_to") if (place := getattr(self, key))}
        return record | ({"error": self.error} if self.error else {})

    def lines(self, outcome: Outcome, is_dry_run: bool) -> list[str]:
        """Say it in one line, nothing for what has no score."""
        if outcome.score is None:
            return []
        words = f"{'keep' if self.is_kept else 'drop'}  {rounded(outcome.score):>8}  {outcome.path}"
        would = "would be " if is_dry_run else ""
        if self.moved_to:
            words += f"  ({would}moved to {self.moved_to})"
        if self.copied_to:
            words += f"  ({would}copied to {self.copied_to})"
        return [words]


def _verdict(options: argparse.Namespace, outcome: Outcome, is_kept: bool) -> _Verdict:
    """Move or copy one image as its score demands."""
    if outcome.score is None:
        return _Verdict(None, error=outcome.error)
    folder = options.copy_to if is_kept else options.move_to
    if folder is None:
        return _Verdict(is_kept, error=outcome.error)
    bring = relocation.free_name if options.dry_run else relocation.copy if is_kept else relocation.move
    try:
        target = bring(outcome.path, folder)
    except ImageError as error:
        say(f"error: {error}")
        return _Verdict(is_kept, error=str(error))
    key = "copied_to" if is_kept else "moved_to"
    return _Verdict(is_kept, error=outcome.error, **{key: target})
