"""What the training loop knows of a model: it gives rewards, and some of its weights learn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imagereward_ext.reward_training.pairs import Case
from imagereward_ext.scorers.calibration import Calibration
from imagereward_ext.weights.model_folder import ModelConfig


class RewardModel(ABC):
    """A model in training."""

    start_calibration: Calibration | None
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
