"""What fits where: presets by GPU memory, and recovering once from running out of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from imagereward_ext.diffusion.model_config import DiffusionConfig, Family
from imagereward_ext.errors import ImageRewardError
from imagereward_ext.memory import is_out_of_memory
from imagereward_ext.refl.config import TrainingConfig
from imagereward_ext.training.learner import has_eight_bit

CPU_MICRO_BATCH = 8
RESERVE = 0.6  # GB the driver, the context and fragmentation take


class MemoryTooSmallError(ImageRewardError):
    """The model cannot be trained in the memory there is."""


@dataclass(frozen=True)
class Fit:
    """How a run is made to fit. None of it changes what is computed, except the resolution."""

    micro_batch: int
    checkpointing: bool
    resolution: int
    eight_bit: bool = False
    why: str = ""


# Largest edge and images at once, with gradient checkpointing, fp16 or bf16 weights and one ImageReward scorer.
PRESETS: Mapping[Family, Mapping[int, tuple[int, int]]] = {
    "sd1": {6: (384, 1), 8: (512, 1), 12: (512, 2), 24: (512, 8)},
    "sd2": {6: (384, 1), 8: (512, 1), 12: (768, 1), 24: (768, 4)},
    "sdxl": {12: (768, 1), 24: (1024, 1)},
}


def free_memory(device: torch.device) -> float | None:
    """Return the free memory of a GPU in GB, None for a CPU."""
    if device.type != "cuda":
        return None
    free, _total = torch.cuda.mem_get_info(device)
    return free / 2**30


def fit(config: TrainingConfig, model: DiffusionConfig, free: float | None, share: int) -> Fit:
    """Choose micro-batch, checkpointing and resolution; what the config says wins over the preset."""
    resolution = max(config.width, config.height) or model.resolution
    size = free if config.memory == "auto" else None if config.memory == "none" else float(config.memory)
    if size is None:
        most = config.micro_batch or (CPU_MICRO_BATCH if free is None else share)
        return Fit(min(most, share), config.gradient_checkpointing, resolution)
    preset = _preset(model, size)
    edge, images = PRESETS[model.family][preset]
    if not config.width and not config.height:
        resolution = min(resolution, edge)
    return Fit(
        micro_batch=min(config.micro_batch or images, share),
        checkpointing=True,
        resolution=resolution,
        eight_bit=preset <= 8 and has_eight_bit(),
        why=f"the {preset} GB preset",
    )


def _preset(model: DiffusionConfig, size: float) -> int:
    """Return the largest preset that fits into so many GB."""
    known = PRESETS[model.family]
    # A card sold with 8 GB shows a little less, so the name of the preset counts, not the exact number.
    fitting = [preset for preset in known if preset <= size + RESERVE]
    if not fitting:
        raise MemoryTooSmallError(
            f"{model.label} cannot be trained in {size:.1f} GB: at least {min(known)} GB of free GPU memory are "
            "needed; close other programs, choose a smaller model, or train on the CPU"
        )
    return max(fitting)


@contextmanager
def running_out_is_told() -> Iterator[None]:
    """Turn running out of memory inside the block into one clear line."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryTooSmallError(
            "out of memory: close other programs, lower the resolution, or choose a smaller memory preset or judge"
        ) from error
