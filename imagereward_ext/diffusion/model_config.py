"""What a checkpoint is made of: the sizes of its networks and the noise it was trained on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

Family = Literal["sd1", "sd2", "sdxl"]
Prediction = Literal["epsilon", "v_prediction"]

FOLDER = Path(__file__).parent / "architectures"


@dataclass(frozen=True)
class NoiseConfig:
    """The forward process: how much noise each training timestep holds, and what the UNet predicts."""

    steps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: str = "scaled_linear"
    prediction: Prediction = "epsilon"
    zero_terminal_snr: bool = False


@dataclass(frozen=True)
class TextConfig:
    """One CLIP text encoder and where a single-file checkpoint keeps it."""

    layout: Literal["clip", "open_clip"]
    """How its tensors are named in a single file: as transformers does, or as OpenCLIP does."""
    prefix: str
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    vocabulary: int = 49408
    positions: int = 77
    activation: str = "quick_gelu"
    projection: int = 0
    """Width of the pooled embedding, 0 when the model has no use for it."""
    pad: Literal["end", "zero"] = "end"
    """What fills the window after the end token: the end token again, or token 0."""
    output: Literal["last", "penultimate"] = "last"
    """The state given to the UNet: the last one after the final norm, or the one before it without a norm."""


@dataclass(frozen=True)
class DiffusionConfig:
    """A whole model. ``unet`` and ``vae`` are the keyword arguments of diffusers' own classes."""

    family: Family
    label: str
    resolution: int
    unet: dict[str, Any]
    vae: dict[str, Any]
    text_encoders: tuple[TextConfig, ...]
    noise: NoiseConfig

    @property
    def downscale(self) -> int:
        """Pixels per latent along one edge."""
        return int(2 ** (len(self.vae["block_out_channels"]) - 1))

    @property
    def latent_channels(self) -> int:
        """Channels of the latents the UNet reads."""
        return int(self.unet["in_channels"])

    @property
    def granularity(self) -> int:
        """Width and height in pixels must be multiples of this, so that every UNet level halves evenly."""
        return int(self.downscale * 2 ** (len(self.unet["block_out_channels"]) - 1))

    def predicting(self, prediction: Prediction) -> DiffusionConfig:
        """Return the same model with the other kind of prediction (and the image size that goes with it)."""
        resolution = self.resolution
        if self.family == "sd2" and self == known(self.family):
            resolution = 768 if prediction == "v_prediction" else 512
        return replace(self, resolution=resolution, noise=replace(self.noise, prediction=prediction))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as they stand in the JSON files."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DiffusionConfig:
        """Build from plain values; an unknown key raises TypeError."""
        parts = dict(values)
        parts["text_encoders"] = tuple(TextConfig(**text) for text in parts["text_encoders"])
        parts["noise"] = NoiseConfig(**parts["noise"])
        return cls(**parts)


@cache
def known(family: Family) -> DiffusionConfig:
    """Read the configuration of a known architecture, which ships with the project."""
    return DiffusionConfig.from_dict(json.loads((FOLDER / f"{family}.json").read_text(encoding="utf-8")))
