"""`evaluate`: measure scorers against people, and text-to-image models with scorers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagereward_ext.cli.exit_codes import ALL_GOOD
from imagereward_ext.cli.messages import say, show
from imagereward_ext.cli.progress import progress_bar
from imagereward_ext.cli.scorer_options import (
    add_weights_options,
    chosen_compute,
    chosen_spec,
    positive,
)
from imagereward_ext.compute import Compute
from imagereward_ext.errors import UsageError
from imagereward_ext.settings import schema
from imagereward_ext.settings.flags import add_flags
from imagereward_ext.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imagereward_ext.evaluation.lazy import LazyScorer
    from imagereward_ext.evaluation.report import Report
    from imagereward_ext.evaluation.scoring import Item, ScoreTable

HELP = "measure scorers against people, and image models with scorers"
DESCRIPTION = """\
preferences  how often scorers agree with people's rankings: accuracy, recall, filter, agreement
generators   the mean score of text-to-image models over the same prompts, and the ranking it gives
top1         the image that each scorer would pick from the generations of a prompt, as a contact sheet
calibrate    the mean and spread of scorers on your own images; with weights, a mix of them

Scores are kept on disk by the image's content: a second report costs nothing, an interrupted one goes on.
"""
_DEFAULT_OUTPUT = Path("imagereward-report")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the four measurements."""
    commands = parser.add_subparsers(dest="measurement", required=True, metavar="MEASUREMENT")

    preferences = _measurement(commands, "preferences", "how often scorers agree with people's rankings")
    preferences.add_argument(
        "rankings", type=Path, metavar="RANKINGS", help="a JSON or CSV file, or a folder"
    )
    _add_images(preferences)
    preferences.add_argument(
        "--images-per-prompt",
        type=positive,
        metavar="N",
        help="recall and filter over prompts with exactly N images; the paper's have 8 (default: more than 4)",
    )

    generators = _measurement(commands, "generators", "the mean score of text-to-image models")
    generators.add_argument(
        "folders",
        type=Path,
        nargs="+",
        metavar="FOLDER",
        help="a folder for each model (or one that holds them)",
    )
    _add_prompts(generators, required=True)
    generators.add_argument(
        "--human-ranking",
        metavar="RANKING",
        help="model names from best to worst with commas, or JSON of places",
    )

    top1 = _measurement(commands, "top1", "the image that each scorer would pick")
    top1.add_argument(
        "place", type=Path, metavar="PLACE", help="rankings, or with --prompts a folder of images"
    )
    _add_prompts(top1, required=False)
    _add_images(top1)

    calibrate = _measurement(commands, "calibrate", "mean and spread on your own images; a mix")
    calibrate.add_argument(
        "folder", type=Path, metavar="FOLDER", help="your images, with their prompts inside"
    )
    calibrate.add_argument("--prompt", help="for images that carry none")
    calibrate.add_argument(
        "--label", help="the key of the mix's score inside image files (default: its name)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure, print, write."""
    measurements = {
        "preferences": _preferences,
        "generators": _generators,
        "top1": _top1,
        "calibrate": _calibrate,
    }
    return measurements[arguments.measurement](arguments)


def _preferences(arguments: argparse.Namespace) -> int:
    from imagereward_ext.evaluation.preferences import items_of, measure_preferences, preferences_report
    from imagereward_ext.rankings import read_rankings

    prompts = read_rankings(arguments.rankings, arguments.images)
    scores = _score(arguments, items_of(prompts), _scorers(arguments))
    measured = measure_preferences(prompts, scores, images_per_prompt=arguments.images_per_prompt)
    return _finish(preferences_report(measured, len(scores.problems)), arguments)


def _generators(arguments: argparse.Namespace) -> int:
    from imagereward_ext.evaluation import generators as room

    prompts = room.read_prompts(arguments.prompts)
    models = room.read_generators(arguments.folders, prompts)
    places = None
    if arguments.human_ranking:
        places = room.parse_human_ranking(arguments.human_ranking, [model.name for model in models])
    scores = _score(arguments, room.items_of(models, prompts), _scorers(arguments))
    measured = room.measure_generators(models, prompts, scores, places)
    return _finish(room.generators_report(measured, places, len(scores.problems)), arguments)


def _top1(arguments: argparse.Namespace) -> int:
    from imagereward_ext.evaluation import generators, top1
    from imagereward_ext.rankings import read_rankings

    if arguments.prompts:
        prompts = generators.read_prompts(arguments.prompts)
        models = generators.read_generators([arguments.place], prompts)
        if len(models) > 1:
            raise UsageError(f"{arguments.place} holds {len(models)} models; name the folder of one")
        groups = top1.from_generator(models[0], prompts)
    else:
        groups = top1.from_rankings(read_rankings(arguments.place, arguments.images))
    scores = _score(arguments, top1.items_of(groups), _scorers(arguments))
    picks = top1.pick_best(groups, scores)
    return _finish(top1.top1_report(picks, scores.scorers, len(scores.problems)), arguments)


def _calibrate(arguments: argparse.Namespace) -> int:
    from imagereward_ext.evaluation import calibrate
    from imagereward_ext.weights.labels import check_label

    if arguments.label is not None:
        check_label(arguments.label)
    names, weights = _names_and_weights(arguments.scorer)
    items, without_prompt = calibrate.own_images(arguments.folder, arguments.prompt)
    if without_prompt:
        say(f"Left out {counted(without_prompt, 'image')} without a prompt (give one with --prompt)")
    scorers = _open(arguments, names)
    scores = _score(arguments, items, scorers)
    show(*calibrate.measures_table(calibrate.measure(scores)).text().split("\n"))
    if any(weight is not None for weight in weights):
        if arguments.output is None:
            raise UsageError("weights make a mix: name its folder with --output")
        chosen = [1.0 if weight is None else weight for weight in weights]
        output = arguments.output.expanduser()
        say(f"Wrote {calibrate.write_mix(output, names, chosen, scorers, scores, arguments.label)}")
    return ALL_GOOD


def _measurement(commands: Any, name: str, help_text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=help_text)
    add = parser.add_argument
    add(
        "--scorer",
        action="append",
        metavar="NAME",
        help="may be given several times (default: ImageReward-v1.0)",
    )
    add("--output", type=Path, metavar="FOLDER", help=f"where to write (default: {_DEFAULT_OUTPUT})")
    add("--cache", type=Path, metavar="FOLDER", help="where scores are kept (default: beside the weights)")
    add_weights_options(parser)
    add_flags(parser, schema(Compute).values())
    return parser


def _add_images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="where relative image paths start")


def _add_prompts(parser: argparse.ArgumentParser, required: bool) -> None:
    help_text = 'JSON list of {"id", "prompt"}; images are named <id>_<n>.png'
    parser.add_argument("--prompts", type=Path, required=required, metavar="FILE", help=help_text)


def _scorers(arguments: argparse.Namespace) -> list[LazyScorer]:
    from imagereward_ext.weights import catalogue

    return _open(arguments, arguments.scorer or [catalogue.DEFAULT])


def _open(arguments: argparse.Namespace, names: Sequence[str]) -> list[LazyScorer]:
    from imagereward_ext.evaluation.lazy import open_scorer

    compute = chosen_compute(arguments)
    return [open_scorer(chosen_spec(arguments, name), compute, say) for name in names]


def _score(arguments: argparse.Namespace, items: Sequence[Item], scorers: Sequence[LazyScorer]) -> ScoreTable:
    from imagereward_ext.evaluation.scoring import score_items

    with progress_bar(len({item.image for item in items}), "image") as advance:
        scores = score_items(items, scorers, _cache(arguments), advance)
    for problem in scores.problems:
        say(f"skipped {problem.image}: {problem.reason}")
    return scores


def _cache(arguments: argparse.Namespace) -> Path:
    from imagereward_ext.weights import locate

    chosen: Path = arguments.cache or locate.places(arguments.weights_dir)[0] / "cache" / "scores"
    return chosen


def _finish(report: Report, arguments: argparse.Namespace) -> int:
    show(*report.text().split("\n"))
    say(f"Wrote {report.write((arguments.output or _DEFAULT_OUTPUT).expanduser())}")
    return ALL_GOOD


def _names_and_weights(arguments: Sequence[str] | None) -> tuple[list[str], list[float | None]]:
    """Split NAME=WEIGHT; a name alone has no weight."""
    from imagereward_ext.weights import catalogue

    names: list[str] = []
    weights: list[float | None] = []
    for argument in arguments or [catalogue.DEFAULT]:
        name, equals, weight = argument.rpartition("=")
        if not equals:
            name, weight = argument, ""
        try:
            weights.append(float(weight) if weight else None)
        except ValueError:
            raise UsageError(f"--scorer {argument}: the weight {weight!r} is no number") from None
        names.append(name)
    return names, weights
