"""`train-reward`: make a scorer of your own from ranked images."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from imagereward_ext.cli.exit_codes import ALL_GOOD, STOPPED
from imagereward_ext.cli.messages import say
from imagereward_ext.cli.scorer_options import add_weights_options
from imagereward_ext.errors import UsageError
from imagereward_ext.settings import Setting, schema
from imagereward_ext.settings.flags import add_flags, given_flags, spelled
from imagereward_ext.weights.spec import ScorerSpec

HELP = "train a scorer on ranked images"
DESCRIPTION = """\
Train a scorer on images that people ranked.

RANKINGS is a ranking JSON ("prompt", "generations", "ranking"), a folder of ImageRewardDB, or a CSV (or a folder
with one) of image,prompt,rank; rank 1 is the best. The result is a model folder that every command can name.
Stopped or killed, the same command goes on where it was. While another training uses the device, this one does not
begin. Several GPUs or machines: accelerate launch -m
imagereward_ext train-reward ...

To adapt ImageReward to your taste with 50 to 100 ranked images:
  train-reward my-ranks.csv --output my-taste --init ImageReward-v1.0
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments; a recipe's settings become flags with the same words."""
    from imagereward_ext.reward_training.recipes import RECIPES

    add = parser.add_argument
    add("rankings", type=Path, metavar="RANKINGS", help="ranked images: a JSON or CSV file, or a folder")
    add(
        "--output",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="the model folder to write; its name is the scorer's",
    )
    add("--recipe", choices=list(RECIPES), default="imagereward", help="what to train (default: %(default)s)")
    add(
        "--init",
        metavar="START",
        help="a scorer's name, a model folder, blip, or random (default: blip; for clip-mlp a new head)",
    )
    add("--tower", metavar="NAME", help="clip-mlp: the scorer whose CLIP towers are used (default: CLIP)")
    add("--architecture", type=Path, metavar="FILE", help="random: JSON with the sizes of the network")
    add("--vocabulary", type=Path, metavar="FILE", help="random: a BERT vocabulary (default: BERT's own)")
    add(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="where relative image paths start (default: at the rankings)",
    )
    add(
        "--validation",
        type=Path,
        metavar="RANKINGS",
        help="rankings to measure on (default: a share held back)",
    )
    add(
        "--validation-share",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="share of the prompts held back (%(default)s)",
    )
    add(
        "--reference",
        type=Path,
        metavar="RANKINGS",
        help="images that set mean 0 and spread 1 (default: validation)",
    )
    add("--label", help="the key of its score inside image files (default: the model's name)")
    add("--run", type=Path, metavar="FOLDER", help="state and log (default: the output with -training)")
    add_weights_options(parser)
    add("--share-device", action="store_true", help="train although another training uses the device")
    add("--cpu", action="store_true", help="train on the CPU although there is an accelerator")
    group = parser.add_argument_group("settings of the recipe")
    add_flags(group, _settings().values(), _default_text, fill_in=False)


def run(arguments: argparse.Namespace) -> int:
    """Train; return 0 when a model was written, 130 when it was stopped."""
    from imagereward_ext.jobs.claim import training_claimed
    from imagereward_ext.reward_training.recipes import make_recipe
    from imagereward_ext.reward_training.starts import Start, make_model
    from imagereward_ext.reward_training.train import Data, read_sets, run_folder_of, train_reward
    from imagereward_ext.training.processes import Processes

    recipe = make_recipe(arguments.recipe, given_flags(arguments, _settings().values()))
    if not 0 < arguments.validation_share < 1:
        raise UsageError(
            f"--validation-share is {arguments.validation_share}; expected a share between 0 and 1"
        )
    output = arguments.output.expanduser()
    data = Data(
        training=arguments.rankings,
        validation=arguments.validation,
        reference=arguments.reference,
        images=arguments.images,
        validation_share=arguments.validation_share,
    )
    start = Start(arguments.init, arguments.architecture, arguments.vocabulary, arguments.tower)
    tell = say if _is_first_process() else _hush
    weights = ScorerSpec(folder=arguments.weights_dir, download=not arguments.no_download)
    sets = read_sets(data, recipe.seed, tell)
    folder = arguments.run or run_folder_of(output)
    with training_claimed(folder, Processes(arguments.cpu), arguments.share_device):
        model = train_reward(
            sets,
            lambda sets: make_model(recipe, start, sets, weights, tell),
            recipe,
            output,
            label=arguments.label,
            run=folder,
            cpu=arguments.cpu,
            report=tell,
            listener=RankingLog(),
        )
    if model.folder is None:
        return STOPPED
    best = model.best
    tell(
        f"Best after update {best.step:,}: {100 * best.validation_accuracy:.2f} % of the held-out pairs "
        f"(loss {best.validation_loss:.4f}). Wrote {model.folder}"
    )
    return ALL_GOOD


class RankingLog:
    """Prints what happens; a progress bar on terminals, lines elsewhere."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._held_out = ""

    def __call__(self, event: dict[str, Any]) -> None:
        """Show one event."""
        if event["kind"] == "update":
            self._advance(event)
        elif event["kind"] == "check":
            loss = event["training_loss"]
            learned = f"loss {loss:.4f}, " if loss is not None else ""
            accuracy = f"{100 * event['validation_accuracy']:.2f} %"
            self._held_out = f", held out {accuracy}"
            say(
                f"update {event['step']:,}: {learned}held out: loss {event['validation_loss']:.4f}, "
                f"accuracy {accuracy}"
            )
        elif event["kind"] == "note":
            say(event["text"])

    def _advance(self, event: dict[str, Any]) -> None:
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(total=event["of"], initial=event["step"] - 1, unit="update", disable=None)
        self._bar.set_postfix_str(f"loss {event['loss']:.4f}{self._held_out}", refresh=False)
        self._bar.update()
        if event["step"] == event["of"]:
            self._bar.close()


def _settings() -> dict[str, Setting]:
    """Return the settings of all recipes: one that several have differs in its default alone."""
    from imagereward_ext.reward_training.recipes import RECIPES

    known: dict[str, Setting] = {}
    for recipe in RECIPES.values():
        known = {**schema(recipe), **known}
    return known


def _default_text(setting: Setting) -> str:
    from imagereward_ext.reward_training.recipes import RECIPES

    known = {name: schema(recipe) for name, recipe in RECIPES.items()}
    texts = {
        name: spelled(known[name][setting.name].default) for name in known if setting.name in known[name]
    }
    if len(texts) == len(RECIPES) and len(set(texts.values())) == 1:
        return spelled(setting.default)
    return ", ".join(f"{name}: {text}" for name, text in texts.items())


def _is_first_process() -> bool:
    # accelerate and torchrun number their processes here; a run by itself has no number.
    return os.environ.get("RANK", "0") == "0"


def _hush(message: str) -> None:
    pass
