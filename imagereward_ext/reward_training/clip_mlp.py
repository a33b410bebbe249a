"""The recipe on frozen CLIP: only the head learns, on embeddings that were computed once."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor, nn

from imagereward_ext.compute import Compute, Placement
from imagereward_ext.rankings import RankedPrompt
from imagereward_ext.reward_training.embeddings import EmbeddingCache, embed_images, embed_prompts
from imagereward_ext.reward_training.pairs import Case
from imagereward_ext.reward_training.recipes import ClipMlpRecipe, RewardTrainingError
from imagereward_ext.reward_training.reward_model import RewardModel
from imagereward_ext.reward_training.train import RankingSets
from imagereward_ext.scorers.calibration import Calibration
from imagereward_ext.scorers.clip_mlp import ClipMlp, ClipMlpHead
from imagereward_ext.scorers.clip_tower import ClipArchitecture, ClipTower, load_tower
from imagereward_ext.scorers.loading import build_scorer, find_source
from imagereward_ext.weights import catalogue, locate
from imagereward_ext.weights.model_folder import ModelConfig
from imagereward_ext.weights.spec import ScorerSpec
from imagereward_ext.weights.tensors import save_tensors
from imagereward_ext.wording import Say


@dataclasses.dataclass(frozen=True)
class TowerFiles:
    """How a model folder refers to the towers it stands on."""

    settings: Mapping[str, Any]
    companions: Mapping[str, Path]
    """Files to copy; none when the settings name a scorer of the catalogue."""


class ClipMlpModel(RewardModel):
    """The head, and the embeddings of every case."""

    def __init__(
        self,
        head: ClipMlpHead,
        images: Mapping[Path, Tensor],
        prompts: Mapping[str, Tensor],
        tower: TowerFiles,
        origin: str,
        *,
        start_calibration: Calibration | None = None,
    ) -> None:
        self.start_calibration = start_calibration
        self._head = head.requires_grad_(True)
        self._image_rows = {path: row for row, path in enumerate(images)}
        self._prompt_rows = {prompt: row for row, prompt in enumerate(prompts)}
        self._images, self._prompts = torch.stack(list(images.values())), torch.stack(list(prompts.values()))
        self._tower = tower
        self._origin = origin

    @property
    def origin(self) -> str:
        """Say what the training started from."""
        return self._origin

    def network(self) -> nn.Module:
        """Return the head."""
        return self._head

    def move(self, device: torch.device) -> None:
        """Put the head and all embeddings where it learns: they are small."""
        super().move(device)
        self._images, self._prompts = self._images.to(device), self._prompts.to(device)

    def learning(self) -> dict[str, nn.Parameter]:
        """Name the head's weights."""
        return dict(self._head.named_parameters())

    def expect(self, cases: Sequence[Case]) -> None:
        """Do nothing: all is there."""

    def rewards(self, cases: Sequence[Case]) -> Tensor:
        """Look the embeddings up and judge them."""
        images = self._images[[self._image_rows[case.image] for case in cases]]
        prompts = self._prompts[[self._prompt_rows[case.prompt] for case in cases]]
        rewards: Tensor = self._head(images, prompts)
        return rewards

    def config(self, name: str, label: str, mean: float, std: float, notes: Mapping[str, Any]) -> ModelConfig:
        """Describe the head and the towers below it."""
        return ModelConfig(
            architecture="clip-mlp",
            name=name,
            label=label,
            mean=mean,
            std=std,
            companions={role: f"{role}{path.suffix}" for role, path in self._tower.companions.items()},
            settings={
                **self._tower.settings,
                "head_widths": [m.out_features for m in self._head.linear[:-1]],
            },
            notes=notes,
        )

    def write_files(self, folder: Path, config: ModelConfig) -> None:
        """Write the head, and the towers when they are in no catalogue."""
        save_tensors(folder / config.weights, dict(self._head.named_parameters()))
        for role, path in self._tower.companions.items():
            shutil.copyfile(path, folder / config.companions[role])


def make_model(
    recipe: ClipMlpRecipe,
    init: str | None,
    tower_name: str | None,
    sets: RankingSets,
    weights: ScorerSpec,
    report: Say | None = None,
    cache: Path | None = None,
) -> ClipMlpModel:
    """Embed everything once, then start from a new head or from that of a clip-mlp model."""
    if init in {"random", "blip"}:
        raise RewardTrainingError(
            f"the recipe clip-mlp starts from a new head or a clip-mlp model, not from {init!r}"
        )
    if init is not None and tower_name is not None:
        raise RewardTrainingError(f"{init} brings its own CLIP tower; leave the tower {tower_name!r} out")
    chosen = Compute(str(PartialState().device), "fp32").for_scoring()
    with torch.inference_mode(False), torch.no_grad():
        if init is not None:
            tower, files, head, start, calibration = _from_model(weights.another(init), chosen, report)
        else:
            calibration = None
            tower, files = _from_catalogue(weights.another(tower_name or "CLIP"), chosen, report)
            head, start = _new_head(tower.architecture.shared_width, recipe.seed), f"seed {recipe.seed}"
    store = EmbeddingCache(cache or locate.places(weights.folder)[0] / "cache" / "embeddings", tower)
    cases = [p for prompts in (sets.training, sets.validation, sets.reference) for p in prompts]
    images = embed_images(tower, _distinct_images(cases), store)
    prompts = embed_prompts(tower, list(dict.fromkeys(p.prompt for p in cases)), store)
    return ClipMlpModel(
        head, images, prompts, files, f"tower {tower.digest}, {start}", start_calibration=calibration
    )


def _distinct_images(prompts: Sequence[RankedPrompt]) -> list[Path]:
    return list(dict.fromkeys(image for prompt in prompts for image in prompt.images))


def _new_head(shared_width: int, seed: int) -> ClipMlpHead:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ClipMlpHead(shared_width)


def _from_catalogue(spec: ScorerSpec, chosen: Placement, report: Say | None) -> tuple[ClipTower, TowerFiles]:
    source, name = find_source(spec, report), spec.name
    if source.architecture != "clip":
        raise RewardTrainingError(f"{name} has no CLIP towers to stand on: it is {source.architecture}")
    architecture = ClipArchitecture.from_settings(source.settings)
    tower = load_tower(source, chosen, architecture)
    identity = {"tower_digest": tower.digest}
    if catalogue.find_entry(name) is not None:
        return tower, TowerFiles({"tower": name, **identity}, {})
    companions = {"tower": source.weights, "tokenizer": source.companion("tokenizer")}
    return tower, TowerFiles({**dataclasses.asdict(architecture), **identity}, companions)


def _from_model(
    spec: ScorerSpec, chosen: Placement, report: Say | None
) -> tuple[ClipTower, TowerFiles, ClipMlpHead, str, Calibration]:
    source, name = find_source(spec, report), spec.name
    if source.architecture != "clip-mlp":
        raise RewardTrainingError(
            f"the recipe clip-mlp starts from a clip-mlp model; {name} is {source.architecture}"
        )
    scorer = build_scorer(source, chosen)
    assert isinstance(scorer, ClipMlp)
    settings = {key: value for key, value in source.settings.items() if key != "head_widths"}
    files = TowerFiles({**settings, "tower_digest": scorer.tower.digest}, dict(source.companions))
    calibration = Calibration(source.mean, source.std)
    return scorer.tower, files, scorer.head, f"{name} ({scorer.digest})", calibration
