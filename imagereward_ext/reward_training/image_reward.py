"""The recipe of ImageReward: both towers and the head learn, the lower layers stay as they are."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imagereward_ext.compute import Compute
from imagereward_ext.reward_training.image_store import ImageStore
from imagereward_ext.reward_training.pairs import Case
from imagereward_ext.reward_training.recipes import ImageRewardRecipe, RewardTrainingError
from imagereward_ext.reward_training.reward_model import RewardModel
from imagereward_ext.scorers.blip import CATALOGUE_NAME, load_towers
from imagereward_ext.scorers.calibration import Calibration
from imagereward_ext.scorers.image_reward import Architecture, ImageReward, Network, published_tensors
from imagereward_ext.scorers.loading import find_source, load_scorer
from imagereward_ext.scorers.preprocessing import Preprocessing
from imagereward_ext.scorers.wordpiece import WordPieceTokenizer
from imagereward_ext.settings import read_file
from imagereward_ext.weights import catalogue
from imagereward_ext.weights.model_folder import ModelConfig
from imagereward_ext.weights.spec import ScorerSpec
from imagereward_ext.weights.tensors import save_tensors
from imagereward_ext.wording import Say

_TEXT_DROPOUT = 0.1
"""BERT's own rate, with which BLIP and ImageReward were trained."""


class ImageRewardModel(RewardModel):
    """The network of ImageReward, on the way to other weights."""

    def __init__(
        self,
        network: Network,
        architecture: Architecture,
        vocabulary: Path,
        origin: str,
        recipe: ImageRewardRecipe,
        *,
        start_calibration: Calibration | None = None,
    ) -> None:
        self.start_calibration = start_calibration
        self._network = network
        self._architecture = architecture
        self._vocabulary = vocabulary
        self._origin = origin
        self._tokenizer = WordPieceTokenizer(vocabulary, architecture.window)
        self._images = ImageStore(Preprocessing(architecture.image_size).image)
        network.requires_grad_(True)
        for parameter in frozen_parameters(network, recipe.frozen_share):
            parameter.requires_grad_(False)
        for module in network.text.modules():
            if isinstance(module, nn.Dropout):
                module.p = _TEXT_DROPOUT

    @property
    def origin(self) -> str:
        """Say what the training started from."""
        return self._origin

    def network(self) -> nn.Module:
        """Return the towers and the head."""
        return self._network

    def learning(self) -> dict[str, nn.Parameter]:
        """Name what is not frozen."""
        return {name: p for name, p in self._network.named_parameters() if p.requires_grad}

    def expect(self, cases: Sequence[Case]) -> None:
        """Start reading the images."""
        self._images.expect(case.image for case in cases)

    def rewards(self, cases: Sequence[Case]) -> Tensor:
        """Encode each case once."""
        device = next(self._network.head.parameters()).device
        inputs = self._images.take([case.image for case in cases]).to(device)
        tokens = self._tokenizer([case.prompt for case in cases], device)
        return self._network.compare(self._network.embed(inputs), tokens.ids, tokens.mask)

    def config(self, name: str, label: str, mean: float, std: float, notes: Mapping[str, Any]) -> ModelConfig:
        """Describe an ImageReward of this size."""
        return ModelConfig(
            architecture="image-reward",
            name=name,
            label=label,
            mean=mean,
            std=std,
            companions={"vocabulary": "vocab.txt"},
            settings=dataclasses.asdict(self._architecture),
            notes=notes,
        )

    def write_files(self, folder: Path, config: ModelConfig) -> None:
        """Write the weights under their published names, and the vocabulary."""
        save_tensors(folder / config.weights, published_tensors(self._network))
        shutil.copyfile(self._vocabulary, folder / config.companions["vocabulary"])


def frozen_parameters(network: Network, share: float) -> list[nn.Parameter]:
    """List the weights of the lower layers of both towers, with the embeddings below them when any is frozen."""
    frozen: list[nn.Parameter] = []
    for tower, layers in (
        (network.vision, network.vision.encoder.layers),
        (network.text, network.text.encoder.layer),
    ):
        count = int(share * len(layers) + 1e-9)  # the published code rounds down: 16 of 24, 8 of 12
        if count:
            frozen.extend(tower.embeddings.parameters())
            frozen.extend(parameter for layer in layers[:count] for parameter in layer.parameters())
    return frozen


def model_from_scorer(
    start: ScorerSpec, recipe: ImageRewardRecipe, report: Say | None = None
) -> ImageRewardModel:
    """Go on from ImageReward v1.0 or from a model folder."""
    source = find_source(start, report)
    if source.architecture != recipe.architecture:
        raise RewardTrainingError(
            f"the recipe {recipe.name} starts from an {recipe.architecture} model; {start.name} is {source.architecture}"
        )
    scorer = load_scorer(start, compute=Compute("cpu", "fp32"), report=report)
    assert isinstance(scorer, ImageReward)
    return ImageRewardModel(
        scorer.network,
        scorer.architecture,
        source.companion("vocabulary"),
        f"{start.name} ({scorer.digest})",
        recipe,
        start_calibration=Calibration(source.mean, source.std),
    )


def model_from_blip(
    recipe: ImageRewardRecipe, weights: ScorerSpec, report: Say | None = None
) -> ImageRewardModel:
    """Start as the published model did: BLIP's towers, a new head."""
    architecture = Architecture()
    network = new_network(architecture, recipe.seed)
    digest = load_towers(network, find_source(weights.another(CATALOGUE_NAME), report))
    vocabulary = weights.obtain(catalogue.BERT_VOCABULARY, report)
    return ImageRewardModel(network, architecture, vocabulary, f"BLIP ({digest}), seed {recipe.seed}", recipe)


def model_from_nothing(
    architecture: Architecture, vocabulary: Path, recipe: ImageRewardRecipe
) -> ImageRewardModel:
    """Start from random weights, for small models; nothing can be frozen then."""
    if recipe.frozen_share > 0:
        raise RewardTrainingError("random weights must all learn: set the frozen share to 0")
    network = new_network(architecture, recipe.seed)
    _spread_evenly(network, torch.Generator().manual_seed(recipe.seed))
    sizes = json.dumps(dataclasses.asdict(architecture), sort_keys=True)
    identity = hashlib.sha256(sizes.encode() + vocabulary.read_bytes()).hexdigest()[:10]
    return ImageRewardModel(
        network, architecture, vocabulary, f"random weights ({identity}), seed {recipe.seed}", recipe
    )


def new_network(architecture: Architecture, seed: int) -> Network:
    """Build a network; only the head's weights (N(0, 1/(width + 1)), as published) are meant to stay."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(architecture)


def read_architecture(path: Path) -> Architecture:
    """Read the sizes of a new network from a JSON file; what is absent is as in ImageReward v1.0."""
    return Architecture.from_settings(read_file(path))


def _spread_evenly(network: Network, generator: torch.Generator) -> None:
    """Initialise for learning from nothing: matrices after Glorot, embeddings small, norms neutral.

    transformers gives BLIP's layers a spread of 1e-10, which is meant to be overwritten and learns nothing.
    """
    for name, parameter in network.named_parameters():
        with torch.no_grad():
            if re.search(r"(norm|LayerNorm)\d?\.weight$", name):
                parameter.fill_(1)
            elif name.endswith("bias"):
                parameter.zero_()
            elif re.search(r"(position_embedding|class_embedding|_embeddings\.weight)$", name):
                parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))
            else:
                outputs, inputs = parameter.shape[0], parameter[0].numel()
                spread = (2 / (inputs + outputs)) ** 0.5
                parameter.copy_(spread * torch.randn(parameter.shape, generator=generator))
