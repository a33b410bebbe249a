"""Teach a tiny ImageReward's towers to see and read, as BLIP was taught before ImageReward learned preferences.

The task is image-text matching: drawings under right, nearly right and wrong prompts, and the network says how much of
the prompt holds. That alone gives it little to hold on to, so linear probes, thrown away afterwards, ask on the way:
the image token for the facts of the drawing (background, colours, shapes, count), the patch at each object's
centre for its shape, and the text token for the facts of both drawing and prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from demo.world import grammar
from demo.world.fitting import Schedule, fit
from demo.world.judge import View, look, verdict
from demo.world.rankings import PAINTED, soften
from imagereward_ext.rankings import read_rankings
from imagereward_ext.reward_training.export import Standard, write_model
from imagereward_ext.reward_training.image_reward import learner_from_nothing
from imagereward_ext.reward_training.recipes import ImageRewardRecipe
from imagereward_ext.scorers.image_reward import Architecture
from imagereward_ext.scorers.preprocessing import Preprocessing
from imagereward_ext.scorers.wordpiece import WordPieceTokenizer

IMAGES, PROMPTS_EACH = 32, 2
DRAWINGS = 6000
CENTRE, SPREAD = 0.7, 0.25
"""Of the judge's scores over such pairs: the network learns them standardised."""


@dataclass(frozen=True)
class Drawing:
    """A picture, what it was meant to be, and what the judge sees in it."""

    scene: grammar.Scene
    view: View


@dataclass(frozen=True)
class Adaptation:
    """A last round on a model's own images, in which shapes are blurred and counts uncertain as in no drawing."""

    schedule: Schedule
    rankings: Path
    """The images are those the model painted for these rankings."""


@dataclass(frozen=True)
class Pictures:
    """What is shown in a round: uint8 pictures (count, 3, 64, 64), what they are, and the facts probes ask for."""

    drawings: list[Drawing]
    pictures: Tensor
    facts: Tensor


def pretrain(
    folder: Path,
    architecture: Architecture,
    vocabulary: Path,
    rounds: Sequence[Schedule],
    states: Path,
    adaptation: Adaptation | None = None,
) -> Path:
    """Train the towers (or go on from their states), write them as a model folder that `train-reward` can start from."""
    learner = learner_from_nothing(
        architecture, vocabulary, ImageRewardRecipe(frozen_share=0.0, seed=rounds[0].seed)
    )
    network: Any = learner.network()
    with torch.no_grad():
        network.vision.embeddings.position_embedding.mul_(
            10
        )  # from nothing, places must be seen from the start
    probes = _probes(architecture, rounds[0].seed)
    tokenize = WordPieceTokenizer(vocabulary, architecture.window)
    preprocessing = Preprocessing(architecture.image_size)
    seen = _drawings(rounds[0].seed)

    def loss_at(step: int, rng: torch.Generator) -> Tensor:
        rows = torch.randint(len(seen.pictures), (IMAGES,), generator=rng)
        shown, facts = [seen.drawings[row] for row in rows.tolist()], seen.facts
        tokens = network.embed(preprocessing.pixels(seen.pictures[rows].float() / 255))
        prompts, held = _prompts(shown, int(torch.randint(2**31, (), generator=rng)))
        words = tokenize([grammar.describe(*prompt) for prompt in prompts], torch.device("cpu"))
        longest = int(words.mask.sum(dim=1).max())  # padding is masked, so leaving it out changes nothing
        hidden = _read(
            network,
            tokens.repeat_interleave(PROMPTS_EACH, dim=0),
            words.ids[:, :longest],
            words.mask[:, :longest],
        )
        said = torch.stack([_facts(scene) for scene, _ in prompts])
        both = torch.cat([said, facts[rows].repeat_interleave(PROMPTS_EACH, dim=0)], dim=1)
        patches, shapes = _centres(shown, architecture)
        matching = (network.head(hidden).squeeze(-1) - (held - CENTRE) / SPREAD).square().mean()
        return (
            matching
            + F.binary_cross_entropy_with_logits(probes["image"](tokens[:, 0]), facts[rows])
            + 3 * F.binary_cross_entropy_with_logits(probes["text"](hidden), both)
            + 0.3 * F.cross_entropy(probes["shape"](tokens.flatten(0, 1)[patches]), shapes)
        )

    trained = {"network": network, "probes": probes}
    for number, schedule in enumerate(rounds, start=1):
        fit(f"towers {number}", trained, loss_at, schedule, states / f"towers-{number}.pt")
    if adaptation:
        seen = _with_paintings(seen, adaptation.rankings)
        fit(folder.name, trained, loss_at, adaptation.schedule, states / f"{folder.name}.pt")
    return write_model(
        learner, folder, "Pretrained", Standard(0.0, 1.0), {"pretrained": "image-text matching"}
    )


def _probes(architecture: Architecture, seed: int) -> nn.ModuleDict:
    count = len(_facts(grammar.random_scene(np.random.default_rng(0))))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.ModuleDict(
            {
                "image": nn.Linear(architecture.vision_width, count),
                "text": nn.Linear(architecture.text_width, 2 * count),
                "shape": nn.Linear(architecture.vision_width, len(grammar.SHAPES)),
            }
        )


def _read(network: Any, tokens: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """The text token's state under the image, which the head turns into the reward: (b, width)."""
    out = network.text(
        input_ids=ids,
        attention_mask=mask,
        encoder_hidden_states=tokens,
        encoder_attention_mask=torch.ones(tokens.shape[:2], dtype=torch.long),
        is_decoder=False,
    )
    hidden: Tensor = out.last_hidden_state[:, 0]
    return hidden


def _centres(drawings: list[Drawing], architecture: Architecture) -> tuple[Tensor, Tensor]:
    """Rows of the image tokens at the objects' centres, and the numbers of their shapes."""
    side, shapes = architecture.image_size // architecture.patch_size, list(grammar.SHAPES)
    rows, numbers = [], []
    for index, drawing in enumerate(drawings):
        for found in drawing.view.objects:
            column, line = (int(at * side / grammar.SIZE) for at in found.centre)
            rows.append(index * (side * side + 1) + 1 + line * side + column)
            numbers.append(shapes.index(found.shape))
    return torch.tensor(rows), torch.tensor(numbers)


def _drawings(seed: int) -> Pictures:
    rng = np.random.default_rng([seed, 23])
    drawings, pictures = [], np.empty((DRAWINGS, grammar.SIZE, grammar.SIZE, 3), np.uint8)
    for index in range(DRAWINGS):
        scene = grammar.random_scene(rng, "train")
        picture = soften(grammar.draw(scene, rng), rng)
        pictures[index] = np.asarray(picture)
        drawings.append(Drawing(scene, look(picture)))
    facts = torch.stack([_facts(drawing.scene) for drawing in drawings])
    return Pictures(drawings, torch.from_numpy(pictures).permute(0, 3, 1, 2), facts)


def _with_paintings(drawn: Pictures, file: Path) -> Pictures:
    """Put the paintings of some rankings, and as many drawings, where all drawings were."""
    paintings, arrays = [], []
    for ranked in read_rankings(file):
        for path in ranked.images:
            if path.stem.endswith(PAINTED):
                picture = Image.open(path).convert("RGB")
                paintings.append(Drawing(grammar.parse(ranked.prompt), look(picture)))
                arrays.append(np.asarray(picture))
    count = len(paintings)
    pictures = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)
    return Pictures(
        [*drawn.drawings[:count], *paintings],
        torch.cat([drawn.pictures[:count], pictures]),
        torch.cat([drawn.facts[:count], torch.stack([_seen(painting.view) for painting in paintings])]),
    )


def _seen(view: View) -> Tensor:
    """The facts of what the judge sees, where nobody can say what was meant."""
    things = tuple(grammar.Thing(found.colour, found.shape) for found in view.objects[:3])
    return _facts(grammar.Scene(things, view.background))


def _prompts(drawings: list[Drawing], seed: int) -> tuple[list[tuple[grammar.Scene, str]], Tensor]:
    """Some prompts for every drawing, and how much of each holds in it."""
    rng = np.random.default_rng(seed)
    prompts, held = [], []
    for drawing in drawings:
        for _ in range(PROMPTS_EACH):
            changes = int(rng.choice([0, 1, 2, 3, 4], p=[0.25, 0.35, 0.15, 0.1, 0.15]))
            scene = (
                grammar.random_scene(rng, "train")
                if changes == 4
                else grammar.corrupt(drawing.scene, rng, changes)
            )
            prompts.append((scene, grammar.random_style(rng)))
            held.append(verdict(drawing.view, scene).score)
    return prompts, torch.tensor(held)


def _facts(scene: grammar.Scene) -> Tensor:
    """Yes-or-no facts of a scene: its background, the colours and shapes in it, how many things."""
    colours = {thing.colour for thing in scene.things}
    shapes = {thing.shape for thing in scene.things}
    facts = [scene.background == colour for colour in grammar.COLOURS]
    facts += [colour in colours for colour in grammar.COLOURS]
    facts += [shape in shapes for shape in grammar.SHAPES]
    facts += [len(scene.things) == number for number in (1, 2, 3)]
    return torch.tensor(facts, dtype=torch.float32)
