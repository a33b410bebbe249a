"""What a run will take, told without loading a weight: parameters, memory, time.

The networks are built without storage and run once on shapes alone; what autograd would keep and what the
processor would compute is counted. Both are estimates, good for choosing, and are called so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imagereward_ext.compute import diffusion_type
from imagereward_ext.diffusion.loading import configuration
from imagereward_ext.diffusion.lora import target_modules
from imagereward_ext.diffusion.low_memory_layers import use_low_memory_layers
from imagereward_ext.diffusion.model_config import DiffusionConfig
from imagereward_ext.diffusion.requirements import require_training_packages
from imagereward_ext.refl.config import TrainingConfig
from imagereward_ext.refl.fit import RESERVE, Fit, fit, free_memory
from imagereward_ext.refl.methods import find_method
from imagereward_ext.refl.rewards import parse_mix
from imagereward_ext.refl.session import check_inputs, read_inputs
from imagereward_ext.scorers.size import size_of

BACKWARD = 2  # times the work of the forward pass
RECOMPUTED = 0.3  # share of the activations that is alive at once when layers are recomputed
EFFICIENCY = 0.4  # of a plain matrix product's speed, as seen on convolutions and small matrices
IMAGE_REWARD = 1.67  # GB of ImageReward's weights in 32 bit; what another scorer takes follows from its own
IMAGE_REWARD_WORK = 120e9  # floating-point operations of its ViT-L/16 at 224 pixels
IMAGE_REWARD_ACTIVATIONS = 1.1  # GB per image of the same in 16 bit


@dataclass(frozen=True)
class Work:
    """One forward pass over one image."""

    flops: float
    saved: float
    """GB that autograd keeps for the backward pass, at 16 bit"""
    parameters: int


@dataclass(frozen=True)
class Plan:
    """What a run will do and take."""

    trained: int
    updates: int
    images: int
    fit: Fit
    width: int
    height: int
    memory: float
    """GB, estimated"""
    free: float | None
    seconds: float
    """per update, estimated"""
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """Spell it out for people."""
        where = "GPU" if self.free is not None else "CPU"
        free = f" of {self.free:.1f} GB free" if self.free is not None else ""
        how = f", from {self.fit.why}" if self.fit.why else ""
        hours = self.seconds * self.updates / 3600
        return [
            f"trained parameters   {self.trained:,}",
            f"updates              {self.updates:,} of {self.images:,} images, {self.fit.micro_batch} at a time{how}",
            f"image size           {self.width}x{self.height}",
            f"checkpointing        {'on' if self.fit.checkpointing else 'off'}",
            f"peak memory          about {self.memory:.1f} GB of {where} memory{free} (estimate)",
            f"time                 about {self.seconds:.1f} s per update, {hours:.1f} h in all (estimate)",
            *self.notes,
        ]


def make_plan(
    config: TrainingConfig, folder: Path | str | None = None, prompts: Sequence[str] | None = None
) -> Plan:
    """Plan a run, with these prompts or those of its file.

    Reads the checkpoint's and the scorers' tables of contents only; `folder` is where the scorers may lie.
    """
    require_training_packages()
    if prompts is None:
        prompts = read_inputs(config)
    else:
        check_inputs(config)
    model = configuration(Path(config.checkpoint).expanduser())
    device = torch.device("cuda" if torch.cuda.is_available() and not config.cpu else "cpu")
    free = free_memory(device)
    fitted = fit(config, model, free, config.batch)
    settings = config.sampling(fitted.resolution)
    checkpointing = fitted.checkpointing or config.gradient_checkpointing
    unet, vae = network_work(model, settings.height, settings.width)
    scorers = Scorers.of(config, folder)
    size = diffusion_type(device, config.precision).itemsize
    scorer_size = 2 if device.type == "cuda" else 4  # they choose for themselves
    return Plan(
        trained=trained_parameters(config, model),
        updates=config.updates,
        images=config.batch,
        fit=Fit(fitted.micro_batch, checkpointing, fitted.resolution, fitted.eight_bit, fitted.why),
        width=settings.width,
        height=settings.height,
        memory=peak(config, (unet, vae), scorers, fitted.micro_batch, checkpointing, size, scorer_size),
        free=free,
        seconds=work_per_image(config, unet, vae, scorers, checkpointing) * config.batch / speed(device),
        notes=tuple(notes(config, len(prompts), folder)),
    )


@dataclass(frozen=True)
class Scorers:
    """What the scorers of a run weigh, in GB at 32 bit."""

    rewards: float
    judge: float

    @classmethod
    def of(cls, config: TrainingConfig, folder: Path | str | None) -> Scorers:
        """Look at their files, or at the catalogue for those still to be downloaded."""
        rewards = sum(size_of(name, folder) for name, _ in parse_mix(config.scorers))
        return cls(rewards / 2**30, size_of(config.judge, folder) / 2**30 if config.judge else 0.0)

    @property
    def share(self) -> float:
        """How large the rewards are, measured in ImageRewards."""
        return self.rewards / IMAGE_REWARD


def network_work(model: DiffusionConfig, height: int, width: int) -> tuple[Work, Work]:
    """Count one forward pass of UNet and of the VAE's decoder."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    h, w = height // model.downscale, width // model.downscale
    with torch.device("meta"):
        unet, vae = UNet2DConditionModel(**model.unet).half(), AutoencoderKL(**model.vae).half()
        latents = torch.empty(1, model.latent_channels, h, w, dtype=torch.half, requires_grad=True)
        states = torch.empty(1, 77, model.unet["cross_attention_dim"], dtype=torch.half)
        pooled = torch.empty(1, model.text_encoders[-1].projection or 1, dtype=torch.half)
        extra = {"text_embeds": pooled, "time_ids": torch.empty(1, 6, dtype=torch.half)}
        t = torch.empty(1, dtype=torch.long)
    use_low_memory_layers(unet)
    use_low_memory_layers(vae.decoder)
    added = extra if model.family == "sdxl" else None

    def predict() -> None:
        unet(latents, t, encoder_hidden_states=states, added_cond_kwargs=added)

    tokens_per_level = {h * w // 4**level for level in range(len(model.unet["block_out_channels"]))}
    return _count(unet, predict, tokens_per_level), _count(vae, lambda: vae.decode(latents), {h * w})


def _count(network: nn.Module, forward: Callable[[], Any], tokens: set[int]) -> Work:
    from torch.utils.flop_counter import FlopCounterMode

    network.requires_grad_(False)
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        # On shapes alone, attention takes the plain path and keeps its matrices; on devices it does not.
        attention = tensor.ndim >= 3 and tensor.shape[-1] == tensor.shape[-2] and tensor.shape[-1] in tokens
        if not attention and not isinstance(tensor, nn.Parameter):
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t),
        FlopCounterMode(display=False) as counter,
    ):
        forward()
    saved = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    return Work(float(counter.get_total_flops()), saved / 2**30, sum(p.numel() for p in network.parameters()))


def trained_parameters(config: TrainingConfig, model: DiffusionConfig) -> int:
    """Count the LoRA's parameters."""
    from diffusers import UNet2DConditionModel

    from imagereward_ext.diffusion.text import TextEncoder

    unet_targets, text_targets = target_modules(config.lora_shape())
    with torch.device("meta"):
        total = _lora_size(UNet2DConditionModel(**model.unet), unet_targets)
        if text_targets:
            total += sum(
                _lora_size(TextEncoder(text, text.vocabulary - 1), text_targets)
                for text in model.text_encoders
            )
    return config.rank * total


def _lora_size(network: nn.Module, endings: Iterable[str]) -> int:
    """Count parameters per rank."""
    ends = tuple("." + ending for ending in endings)
    linear = [m for name, m in network.named_modules() if name.endswith(ends) and isinstance(m, nn.Linear)]
    return sum(layer.in_features + layer.out_features for layer in linear)


def peak(
    config: TrainingConfig,
    works: tuple[Work, Work],
    scorers: Scorers,
    images: int,
    checkpointing: bool,
    size: int,
    scorer_size: int,
) -> float:
    """Estimate the peak memory in GB: frozen weights, and the activations of one micro-batch."""
    weights = size * sum(work.parameters for work in works) / 2**30
    weights += (scorers.rewards + scorers.judge) * scorer_size / 4
    branches = 2 if config.guidance > 1 else 1
    unet, vae = works
    activations = (branches * unet.saved + vae.saved) * size / 2
    activations += IMAGE_REWARD_ACTIVATIONS * scorers.share * scorer_size / 2
    return RESERVE + weights + images * activations * (RECOMPUTED if checkpointing else 1)


def work_per_image(
    config: TrainingConfig, unet: Work, vae: Work, scorers: Scorers, checkpointing: bool
) -> float:
    """Count the floating-point operations that one image of one update takes."""
    trained = 1 + BACKWARD + (1 if checkpointing else 0)
    method = find_method(config.method)
    if not method.rolls_out:
        return unet.flops * method.passes(trained)
    branches = 2 if config.guidance > 1 else 1
    passes = branches * (config.last_step + trained + (1 if config.kl_weight else 0))
    prior = trained if config.prior_weight else 0
    return unet.flops * (passes + prior) + (vae.flops + IMAGE_REWARD_WORK * scorers.share) * trained


def speed(device: torch.device) -> float:
    """Measure the floating-point operations per second that networks reach here."""
    dtype, side, rounds = (torch.float16, 4096, 8) if device.type == "cuda" else (torch.float32, 1024, 8)
    a = torch.ones(side, side, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        product = a @ a
        product[0, 0].item()  # waits for the device
        best = min(best, time.perf_counter() - started)
    return EFFICIENCY * 2 * side**3 / best


def notes(config: TrainingConfig, prompts: int, folder: Path | str | None) -> Iterable[str]:
    """Say what else a person should know before the start."""
    yield f"prompts              {prompts:,}"
    for name, weight in parse_mix(config.scorers):
        yield f"reward               {name} (weight {weight:g}){_download(name, folder)}, on the training device"
    method = find_method(config.method)
    if not method.rolls_out and not config.images:
        each = method.images_per_prompt(config)
        rounds = f", {config.rounds} times" if method.in_rounds and config.rounds > 1 else ""
        yield (
            f"images to learn from {config.prior_images:,}, {each} of a prompt, made before the first update{rounds}"
        )
    if not config.guard:
        yield "guard rails          off: nothing stops the run when the images get worse"
    elif config.judge:
        yield f"judge                {config.judge}{_download(config.judge, folder)}, on the training device of the first process"
    else:
        yield (
            "judge                none: the guard rails look at the distance to the base, diversity and saturation; "
            "a second scorer, chosen as the judge, sees more"
        )


def _download(name: str, folder: Path | str | None) -> str:
    from imagereward_ext.weights.catalogue import find_entry
    from imagereward_ext.weights.locate import find_file

    entry = find_entry(name)
    if entry is None:
        return ""
    files = [entry.weights, *entry.companions.values()]
    absent = sum(file.size_in_bytes for file in files if find_file(file, folder) is None)
    return f", {absent / 1e9:.2g} GB to download once" if absent else ""
