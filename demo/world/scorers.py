"""Train the tiny scorers with the project's own `train-reward`, on rankings by the judge.

Both have ImageReward's architecture at small width and start from towers taught to see and read, as scorers of
people's images start from BLIP or CLIP. `demo-reward` is the one to score and to train with; `demo-witness` has towers
of its own and learned from other prompts, drawings and seeds, so that it can testify whether a training that was rewarded by the first one made the
images better or merely fooled it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.world import rankings, tokenizer
from demo.world.fitting import Schedule
from demo.world.rankings import Plan
from imagereward_ext.diffusion.parts import DiffusionParts
from imagereward_ext.reward_training.recipes import ImageRewardRecipe
from imagereward_ext.scorers.image_reward import Architecture


@dataclass(frozen=True)
class Training:
    """One scorer: its name, its label in files, and what it learns from."""

    name: str
    label: str
    data: Plan
    towers: Schedule
    adaptation: Schedule
    recipe: ImageRewardRecipe


def _recipe(seed: int) -> ImageRewardRecipe:
    return ImageRewardRecipe(
        pairs_per_step=32,
        epochs=2,
        learning_rate=1e-4,
        warmup=0.05,
        frozen_share=0.0,
        dropout=False,
        validations_per_epoch=4,
        seed=seed,
    )


def _adaptation(seed: int) -> Schedule:
    return Schedule(steps=1200, lr=5e-4, warmup=50, save_every=50, seed=seed)


TRAININGS = (
    Training(
        "demo-reward",
        "DemoReward",
        Plan("train", 1000, seed=31, painted=400),
        Schedule(steps=4400, lr=7e-4, warmup=150, save_every=50, seed=5),
        _adaptation(15),
        _recipe(5),
    ),
    Training(
        "demo-witness",
        "DemoWitness",
        Plan("train", 1000, seed=57, painted=400),
        Schedule(steps=3400, lr=7e-4, warmup=150, save_every=50, seed=9),
        _adaptation(16),
        _recipe(6),
    ),
)
VALIDATION = Plan("held-out", 100, seed=41, painted=40)
HELD_OUT = Plan("held-out", 200, seed=41, painted=100, skip=100)
"""What accuracies are reported on: no prompt of it was trained or validated with."""

ARCHITECTURE = Architecture(
    image_size=64,
    patch_size=8,
    vision_width=96,
    vision_layers=3,
    vision_heads=3,
    text_width=96,
    text_layers=3,
    text_heads=3,
    text_positions=64,
    vocabulary_size=192,
    window=32,
    head_widths=(64, 32, 16, 8),
)


def training_named(name: str) -> Training:
    """Find a scorer's training."""
    return next(training for training in TRAININGS if training.name == name)


def write_vocabulary(path: Path) -> None:
    """Write a BERT vocabulary: marks, the grammar's words, then letters, digits and signs for any other text."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    signs = ",.;:!?()[]<>'\"/-+&%#@"
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]"]
    tokens = [*marks, *tokenizer.words(), *letters, *(f"##{letter}" for letter in letters), *signs]
    path.write_text("\n".join(dict.fromkeys(tokens)) + "\n", "utf-8")


def train_towers(training: Training, work: Path) -> Path:
    """Train (or find) the towers that a scorer begins with."""
    from demo.world.pretraining import pretrain

    folder = work / f"{training.name}-towers"
    if not folder.is_dir():
        pretrain(folder, ARCHITECTURE, _vocabulary(training, work), training.towers)
    return folder


def adapt_towers(training: Training, work: Path, ranked: Path) -> Path:
    """Go on with a scorer's towers (or find them), on the paintings of its rankings."""
    from demo.world.pretraining import adapt

    folder, towers = work / f"{training.name}-towers-adapted", train_towers(training, work)
    if not folder.is_dir():
        adapt(folder, ARCHITECTURE, _vocabulary(training, work), training.adaptation, towers, ranked)
    return folder


def _vocabulary(training: Training, work: Path) -> Path:
    work.mkdir(parents=True, exist_ok=True)
    path = work / f"{training.name}-vocab.txt"
    write_vocabulary(path)
    return path


def train(training: Training, work: Path, models: Path, parts: DiffusionParts) -> dict[str, Any]:
    """Make the rankings, train, and write the model folder in half precision. Returns the folder's notes."""
    from imagereward_ext.reward_training.starts import Start, make_model
    from imagereward_ext.reward_training.train import Data, read_sets, train_reward

    ranked = rankings.write(work / training.name, training.data, parts)
    towers = adapt_towers(training, work, ranked)
    sets = read_sets(
        Data(
            training=ranked,
            validation=rankings.write(work / f"{training.name}-validation", VALIDATION, parts),
        )
    )
    trained = train_reward(
        sets,
        lambda found: make_model(training.recipe, Start(init=str(towers)), found),
        training.recipe,
        models / training.name,
        label=training.label,
        run=work / f"{training.name}-run",
        cpu=True,
        report=lambda line: print(f"[{training.name}] {line}", flush=True),
        listener=lambda event: _tell(training.name, event),
    )
    print(f"[{training.name}] validation accuracy {trained.best.validation_accuracy:.3f}", flush=True)
    _halve(models / training.name)
    return _tidy_notes(models / training.name, towers)


def _tidy_notes(folder: Path, towers: Path) -> dict[str, Any]:
    """Name the start without the folder it lay in; returns the notes."""
    path = folder / "config.json"
    config = json.loads(path.read_text("utf-8"))
    notes: dict[str, Any] = config["notes"]
    notes["start"] = notes["start"].replace(str(towers), towers.name)
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return notes


def _tell(name: str, event: dict[str, Any]) -> None:
    if event["kind"] == "check":
        print(f"[{name}] {event['step']}: validation accuracy {event['validation_accuracy']:.3f}", flush=True)
    elif event["kind"] == "update" and event["step"] % 100 == 0:
        print(f"[{name}] {event['step']}/{event['of']} loss {event['loss']:.3f}", flush=True)


def _halve(folder: Path) -> None:
    """Store the weights in half precision: a download of half the size, scores that differ in the third decimal."""
    from safetensors.torch import load_file

    from imagereward_ext.weights.tensors import save_tensors

    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_tensors(path, {name: tensor.half() for name, tensor in tensors.items()})
