"""What the training loop knows of a model: it gives rewards, and some of its weights learn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from imagereward_ext.compute import Compute
from imagereward_ext.reward_training.comparisons import Case
from imagereward_ext.scorers.base import Scorer
from imagereward_ext.scorers.loading import Source, find_source, load_scorer
from imagereward_ext.weights.catalogue import RemoteFile
from imagereward_ext.weights.download import obtain
from imagereward_ext.weights.model_folder import ModelConfig
from imagereward_ext.weights.spec import ScorerSpec
from imagereward_ext.wording import Say


@dataclass(frozen=True)
class Where:
    """Where published weights come from."""

    folder: Path | None = None
    """Searched before all other places."""
    download: bool = True
    report: Say | None = None

    def source(self, name: str) -> Source:
        """Find (or bring) a scorer's files."""
        return find_source(ScorerSpec(name, self.folder, self.download), self.report)

    def scorer(self, name: str, device: str = "cpu") -> Scorer:
        """Load a scorer in single precision."""
        spec = ScorerSpec(name, self.folder, self.download)
        return load_scorer(spec, compute=Compute(device, "fp32"), report=self.report)

    def file(self, file: RemoteFile) -> Path:
        """Find (or bring) a single file."""
        return obtain(file, self.folder, download=self.download, report=self.report)


class Standard(NamedTuple):
    """What turns raw rewards into scores of mean 0 and spread 1 on a reference set."""

    mean: float
    std: float


class RewardModel(ABC):
    """A model in training."""

    start_standard: Standard | None
    """That of a start which is a scorer already; a training that only harms should leave it as it is."""

    @property
    @abstractmethod
    def origin(self) -> str:
        """Say in one line what the training started from; two different starts never say the same."""

    @abstractmethod
    def network(self) -> nn.Module:
        """Return the module whose mode (training or not) and device matter."""

    @abstractmethod
    def learning(self) -> dict[str, nn.Parameter]:
        """Name the weights that learn; every other one requires no gradient."""

    @abstractmethod
    def rewards(self, cases: Sequence[Case]) -> Tensor:
        """Return raw rewards, (n,), with gradient to what learns."""

    @abstractmethod
    def expect(self, cases: Sequence[Case]) -> None:
        """Start loading what will be asked for next."""

    @abstractmethod
    def config(self, name: str, label: str, mean: float, std: float, notes: Mapping[str, Any]) -> ModelConfig:
        """Describe the trained model."""

    @abstractmethod
    def write_files(self, folder: Path, config: ModelConfig) -> None:
        """Write the weights and whatever else the configuration names."""

    def move(self, device: torch.device) -> None:
        """Put the network where it learns."""
        self.network().to(device)

    def state(self) -> dict[str, Tensor]:
        """Copy the weights that learn, to the CPU."""
        return {name: weight.detach().cpu().clone() for name, weight in self.learning().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Set the weights that learn."""
        with torch.no_grad():
            for name, weight in self.learning().items():
                weight.copy_(state[name])
