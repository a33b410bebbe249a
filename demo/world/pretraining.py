"""Teach a tiny ImageReward's towers to see and read, as BLIP was taught before ImageReward learned preferences.

The task is image-text matching: drawings under right, nearly right and wrong prompts, and the network says how much of
the prompt holds. That alone gives it little to hold on to, so linear probes, thrown away afterwards, ask on the way:
the image token for the facts of the drawing (background, colours, shapes, count), the patch at each object's
centre for its shape, and the text token for the facts of both drawing and prompt.
"""

from __future__ import annotations

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
from imagereward_ext.reward_training.export import write_model
from imagereward_ext.reward_training.image_reward import model_from_nothing
from imagereward_ext.reward_training.recipes import ImageRewardRecipe
from imagereward_ext.scorers.calibration import STANDARD
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
class Pictures:
    """What is shown in a round: uint8 pictures (count, 3, 64, 64), what they are, and the facts probes ask for."""

    drawings: list[Drawing]
    pictures: Tensor
    facts: Tensor


class Student:
    """The network that learns, and the probes that ask it."""

    def __init__(self, architecture: Architecture, vocabulary: Path, seed: int) -> None:
        """Begin from nothing."""
        self.architecture = architecture
        self.learner = model_from_nothing(
            architecture, vocabulary, ImageRewardRecipe(frozen_share=0.0, seed=seed)
        )
        self.network: Any = self.learner.network()
        with torch.no_grad():
            places = self.network.vision.embeddings.position_embedding
            places.mul_(10)  # from nothing, places must be seen from the start
        self.probes = _probes(architecture, seed)
        self.trained = {"network": self.network, "probes": self.probes}
        self.tokenize = WordPieceTokenizer(vocabulary, architecture.window)
        self.preprocessing = Preprocessing(architecture.image_size)

    def loss(self, seen: Pictures, rng: torch.Generator) -> Tensor:
        """Ask about some of the pictures, each under some prompts."""
        rows = torch.randint(len(seen.pictures), (IMAGES,), generator=rng)
        shown, facts = [seen.drawings[row] for row in rows.tolist()], seen.facts
        tokens = self.network.embed(self.preprocessing.pixels(seen.pictures[rows].float() / 255))
        prompts, held = _prompts(shown, int(torch.randint(2**31, (), generator=rng)))
        words = self.tokenize([grammar.describe(*prompt) for prompt in prompts], torch.device("cpu"))
        longest = int(words.mask.sum(dim=1).max())  # padding is masked, so leaving it out changes nothing
        hidden = _read(
            self.network,
            tokens.repeat_interleave(PROMPTS_EACH, dim=0),
            words.ids[:, :longest],
            words.mask[:, :longest],
        )
        said = torch.stack([_facts(scene) for scene, _ in prompts])
        both = torch.cat([said, facts[rows].repeat_interleave(PROMPTS_EACH, dim=0)], dim=1)
        patches, shapes = _centres(shown, self.architecture)
        probes = self.probes
        matching = (self.network.head(hidden).squeeze(-1) - (held - CENTRE) / SPREAD).square().mean()
        return (
            matching
            + F.binary_cross_entropy_with_logits(probes["image"](tokens[:, 0]), facts[rows])
            + 3 * F.binary_cross_entropy_with_logits(probes["text"](hidden), both)
            + 0.3 * F.cross_entropy(probes["shape"](tokens.flatten(0, 1)[patches]), shapes)
        )

    def write(self, folder: Path) -> Path:
        """Write the towers as a model folder that `train-reward` can start from."""
        notes = {"pretrained": "image-text matching"}
        return write_model(self.learner, folder, "Pretrained", STANDARD, notes)


def pretrain(folder: Path, architecture: Architecture, vocabulary: Path, schedule: Schedule) -> Path:
    """Train towers on drawings (or go on from their state), and write them."""
    student = Student(architecture, vocabulary, schedule.seed)
    seen = _drawings(schedule.seed, DRAWINGS)
    fit(folder.name, student.trained, lambda _, rng: student.loss(seen, rng), schedule, _state(folder))
    return student.write(folder)


def adapt(
    folder: Path, architecture: Architecture, vocabulary: Path, schedule: Schedule, towers: Path, file: Path
) -> Path:
    """Go on from some towers with the paintings of some rankings, where shapes are blurred and counts uncertain as in no
    drawing, and as many drawings; write the result."""
    student = Student(architecture, vocabulary, schedule.seed)
    for name, weights in torch.load(_state(towers), weights_only=True)["networks"].items():
        student.trained[name].load_state_dict(weights)
    seen = _with_drawings(_paintings(file), schedule.seed)
    fit(folder.name, student.trained, lambda _, rng: student.loss(seen, rng), schedule, _state(folder))
    return student.write(folder)


def _state(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.pt")


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


def _drawings(seed: int, count: int) -> Pictures:
    rng = np.random.default_rng([seed, 23])
    drawings, pictures = [], []
    for _ in range(count):
        scene = grammar.random_scene(rng, "train")
        picture = soften(grammar.draw(scene, rng), rng)
        pictures.append(picture)
        drawings.append(Drawing(scene, look(picture)))
    facts = torch.stack([_facts(drawing.scene) for drawing in drawings])
    return Pictures(drawings, _stacked(pictures), facts)


def _paintings(file: Path) -> Pictures:
    """What a model painted for some rankings."""
    paintings, pictures = [], []
    for ranked in read_rankings(file):
        for path in ranked.images:
            if path.stem.endswith(PAINTED):
                pictures.append(Image.open(path).convert("RGB"))
                paintings.append(Drawing(grammar.parse(ranked.prompt), look(pictures[-1])))
    return Pictures(
        paintings, _stacked(pictures), torch.stack([_seen(painting.view) for painting in paintings])
    )


def _with_drawings(painted: Pictures, seed: int) -> Pictures:
    drawn = _drawings(seed, len(painted.drawings))
    return Pictures(
        [*drawn.drawings, *painted.drawings],
        torch.cat([drawn.pictures, painted.pictures]),
        torch.cat([drawn.facts, painted.facts]),
    )


def _stacked(pictures: list[Image.Image]) -> Tensor:
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2)


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
