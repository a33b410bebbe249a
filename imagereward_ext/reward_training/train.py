"""The whole way: read rankings, leave out broken images, train, standardise, write the model folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from imagereward_ext import __version__
from imagereward_ext.rankings import (
    Problem,
    RankedPrompt,
    count_pairs,
    read_rankings,
    split,
    verified,
)
from imagereward_ext.reward_training.export import calibration_of, write_model
from imagereward_ext.reward_training.pairs import Case
from imagereward_ext.reward_training.recipes import Recipe, RewardTrainingError
from imagereward_ext.reward_training.reward_model import RewardModel
from imagereward_ext.reward_training.run_folder import Measurement, RewardRunFolder
from imagereward_ext.reward_training.task import RankingTask
from imagereward_ext.scorers.calibration import Calibration
from imagereward_ext.training.engine import Ending
from imagereward_ext.training.event_log import Listener
from imagereward_ext.training.processes import Processes
from imagereward_ext.training.stopping import StopRequest
from imagereward_ext.weights.labels import check_label, check_name, label_of
from imagereward_ext.wording import Say, counted

_ENOUGH_HELD_OUT = 100
_ENOUGH_FOR_A_STANDARD = 20
"""As for a mix: of fewer images a mean and a spread are chance."""


@dataclass(frozen=True)
class Data:
    """Where the rankings are."""

    training: Path
    validation: Path | None = None
    """Rankings to measure on; without them a share of the training prompts is held back."""
    reference: Path | None = None
    """Rankings whose images set mean 0 and spread 1; without them the validation images do."""
    images: Path | None = None
    """The folder that relative image paths start from, when it is not the one of the rankings."""
    validation_share: float = 0.1


@dataclass(frozen=True)
class RankingSets:
    """The rankings of a training, without the images that cannot be read."""

    training: list[RankedPrompt]
    validation: list[RankedPrompt]
    reference: list[RankedPrompt]
    skipped: list[Problem]


@dataclass(frozen=True)
class TrainedModel:
    """How a training ended, and the model folder when it ended by itself."""

    ending: Ending
    updates: int
    """How many there are to the end."""
    best: Measurement
    folder: Path | None


def train_reward(
    sets: RankingSets,
    make_model: Callable[[RankingSets], RewardModel],
    recipe: Recipe,
    output: Path,
    *,
    label: str | None = None,
    run: Path | None = None,
    cpu: bool = False,
    report: Say | None = None,
    listener: Listener | None = None,
) -> TrainedModel:
    """Train a scorer into the model folder `output`; called again after a stop or a kill, it goes on.

    `run` is the folder for the state and the log (beside the output when None). Several processes started by
    `accelerate launch` share the work; the first one writes.
    """
    say = report or (lambda message: None)
    label = label_of(check_name(output.name)) if label is None else check_label(label)
    processes = Processes(cpu)  # decides which device and which process this is, before anybody asks
    model = make_model(sets)
    folder = RewardRunFolder(run or run_folder_of(output))
    task = RankingTask(model, recipe, sets.training, sets.validation, folder, processes, listener)
    if processes.main:
        folder.claim(_identity(model, recipe, sets))
        folder.adopt_earlier_layout(list(model.learning()))
        _tell_skipped(sets.skipped, folder, say)
    processes.wait()
    say(
        f"{counted(len(sets.training), 'prompt')} with {counted(count_pairs(sets.training), 'pair')} to learn from, "
        f"{len(sets.validation):,} with {count_pairs(sets.validation):,} held out; {task.updates:,} updates"
    )
    task.engine.restore()
    with StopRequest(folder.stop) as stop:
        ending = task.engine.run(stop)
    assert task.best is not None
    if ending.kind != "finished":
        say(f"Stopped after update {ending.step:,} of {task.updates:,}. The same command goes on from there.")
        return TrainedModel(ending, task.updates, task.best, None)
    best = task.restore_best()
    unchanged = best.step == 0
    calibration = _calibration(task, sets.reference, unchanged, say)
    if processes.main:
        notes = {
            **_notes(model, recipe, sets, best),
            "updates": task.updates,
            "standardised_on_images": calibration.images,
        }
        write_model(model, output, label, calibration, notes)
        folder.finish()
    processes.wait()
    if unchanged:
        say(
            "The start was never improved upon: the model is what it was. Try more rankings or another learning rate."
        )
    return TrainedModel(ending, task.updates, best, output)


def run_folder_of(output: Path) -> Path:
    """Return the folder for the state and the log of a training that names none: beside its model."""
    return output.with_name(f"{output.name}-training")


def _calibration(
    task: RankingTask, reference: Sequence[RankedPrompt], unchanged: bool, say: Say
) -> Calibration:
    """Standardise the model, or let it keep the scale of what it started from."""
    start, cases = task.model.start_calibration, _cases(reference)
    if start is not None and unchanged:
        return start
    if len(cases) < _ENOUGH_FOR_A_STANDARD:
        few = (
            f"{len(cases)} images are too few to set mean 0 and spread 1 (it takes {_ENOUGH_FOR_A_STANDARD})"
        )
        if start is not None:
            say(f"{few}: the model keeps the scale of its start.")
            return start
        say(f"{few}: a limit for this model means little. Name more with a reference set.")
    return calibration_of(task.raw_rewards(cases))


def read_sets(data: Data, seed: int = 0, report: Say | None = None) -> RankingSets:
    """Read all rankings, check every image once, and see that something is left to learn from and to measure."""
    say = report or (lambda message: None)
    training = read_rankings(data.training, data.images)
    if data.validation is None:
        _require_two_texts(training, data.training)
        training, validation = split(training, data.validation_share, seed)
    else:
        validation = read_rankings(data.validation, data.images)
    reference = read_rankings(data.reference, data.images) if data.reference else []

    say(f"Checking the images of {len(training) + len(validation) + len(reference):,} prompts")
    skipped: dict[Path, Problem] = {}
    usable = []
    for prompts in (training, validation, reference):
        good, problems = verified(prompts)
        usable.append(good)
        skipped.update({problem.image: problem for problem in problems})
    training, validation, reference = usable
    _require_pairs(training, "to learn from", data.training, list(skipped.values()))
    _require_pairs(validation, "to measure on", data.validation or data.training, list(skipped.values()))
    return RankingSets(
        training, validation, reference or _reference(training, validation), list(skipped.values())
    )


def _reference(training: list[RankedPrompt], validation: list[RankedPrompt]) -> list[RankedPrompt]:
    """Standardise on held-out images, whose rewards are not stretched by training; on all when they are few."""
    few = sum(len(prompt.images) for prompt in validation) < _ENOUGH_HELD_OUT
    return [*validation, *training] if few else validation


def _require_two_texts(prompts: Sequence[RankedPrompt], source: Path) -> None:
    if len({prompt.prompt for prompt in prompts}) == 1:
        raise RewardTrainingError(
            f"{source} leaves no pair to measure on: all its images are of one prompt, and what is held out must be of "
            "another. Rank the images of a second prompt, or name further rankings for validation."
        )


def _require_pairs(
    prompts: Sequence[RankedPrompt], purpose: str, source: Path, skipped: Sequence[Problem]
) -> None:
    if prompts:
        return
    first = (
        f" The first of {len(skipped)} skipped images: {skipped[0].image}: {skipped[0].reason}."
        if skipped
        else ""
    )
    raise RewardTrainingError(
        f"{source} leaves no pair {purpose}: it takes two readable images of one prompt with different ranks.{first}"
    )


def _tell_skipped(skipped: Sequence[Problem], folder: RewardRunFolder, say: Say) -> None:
    if not skipped:
        return
    path = folder.write_skipped([f"{problem.image}: {problem.reason}" for problem in skipped])
    say(f"Skipped {counted(len(skipped), 'image')} missing or broken; they are listed in {path}")


def _cases(prompts: Sequence[RankedPrompt]) -> list[Case]:
    return list(dict.fromkeys(Case(image, prompt.prompt) for prompt in prompts for image in prompt.images))


def _identity(model: RewardModel, recipe: Recipe, sets: RankingSets) -> dict[str, Any]:
    """Say what makes a run this run: to go on with anything else would mix two trainings."""
    return {
        "recipe": recipe.name,
        **{key: list(v) if isinstance(v, tuple) else v for key, v in asdict(recipe).items()},
        "start": model.origin,
        "training": _digest(sets.training),
        "validation": _digest(sets.validation),
    }


def _digest(prompts: Sequence[RankedPrompt]) -> str:
    content = [[p.id, p.prompt, [image.name for image in p.images], p.ranks] for p in prompts]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:10]


def _notes(model: RewardModel, recipe: Recipe, sets: RankingSets, best: Measurement) -> dict[str, Any]:
    return {
        "made_by": f"imagereward {__version__}",
        "recipe": recipe.name,
        "settings": asdict(recipe),
        # A model may be given away: the name of what it started from, not where that lay.
        "start": model.origin.replace("\\", "/").rsplit("/", 1)[-1],
        "training_pairs": count_pairs(sets.training),
        "validation_pairs": count_pairs(sets.validation),
        "validation_accuracy": best.validation_accuracy,
        "validation_loss": best.validation_loss,
        "best_after_update": best.step,
    }
