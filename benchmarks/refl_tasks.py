"""One optimiser step of ReFL, ours and the peer's, with the time of each part. Each runs in its own process."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.gauges import peak_resident
from benchmarks.materials import PROMPTS

STEPS, STOP, LATENTS, PIXELS = 40, 35, 64, 512
UNET = {
    "sample_size": LATENTS,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [32, 64],
    "layers_per_block": 1,
    "cross_attention_dim": 32,
    "attention_head_dim": 2,
    "norm_num_groups": 32,
}
VAE = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [32] * 4,
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 32,
    "sample_size": PIXELS,
    "scaling_factor": 0.18215,
}
Figures = dict[str, Any]
PARTS = ("rollout", "decode", "reward", "backward", "update")


class Split:
    """Adds up the time of named parts; waits for a GPU where there is one."""

    def __init__(self, device: str) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._device = device

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        start = self.now()
        yield
        self.seconds[name] += self.now() - start

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            with self.part(name):
                return function(*arguments, **named)

        return timed

    def now(self) -> float:
        if self._device.startswith("cuda"):
            import torch

            torch.cuda.synchronize()
        return time.perf_counter()


def _steps(step: Callable[[], Any], split: Split, rounds: int) -> Figures:
    """Take one step to warm up, then the median of some."""
    from statistics import median

    rows = []
    for number in range(rounds + 1):
        split.seconds = dict.fromkeys(PARTS, 0.0)
        start, cpu = split.now(), time.process_time()
        step()
        row = {f"{k}_s": v for k, v in split.seconds.items()}
        row |= {"step_s": split.now() - start, "step_cpu_s": time.process_time() - cpu}
        if number:
            rows.append(row)
    return {name: median(row[name] for row in rows) for name in rows[0]} | {"peak_mb": peak_resident()}


def peer_step(folder: str, rounds: int, frozen: bool = True) -> Figures:
    """The loop body of the peer's `ReFL.Trainer.train`, statement by statement, with its own scorer and its libraries."""
    from benchmarks import peer

    model = peer.load(folder)
    import torch
    import torch.nn.functional as F
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize

    torch.manual_seed(0)
    unet, vae = UNet2DConditionModel(**UNET).train(), AutoencoderKL(**VAE).eval().requires_grad_(False)
    scheduler = DDPMScheduler(
        num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
    )
    model.requires_grad_(not frozen)
    optimiser = torch.optim.AdamW(unet.parameters(), lr=1e-5, weight_decay=1e-2)
    states = torch.randn(1, 16, 32)
    words = model.blip.tokenizer(
        PROMPTS[:1], padding="max_length", truncation=True, max_length=35, return_tensors="pt"
    )
    preprocess = Compose([
        Resize(224, interpolation=InterpolationMode.BICUBIC, antialias=True),
        CenterCrop(224),
        Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    ])  # fmt: skip
    split = Split("cpu")

    def step() -> None:
        with split.part("rollout"), torch.no_grad():
            latents = torch.randn((1, 4, LATENTS, LATENTS))
            scheduler.set_timesteps(STEPS)
            timesteps = scheduler.timesteps
            for t in timesteps[:STOP]:
                noise = unet(scheduler.scale_model_input(latents, t), t, encoder_hidden_states=states).sample
                latents = scheduler.step(noise, t, latents).prev_sample
        noise = unet(scheduler.scale_model_input(latents, timesteps[STOP]), timesteps[STOP],
                     encoder_hidden_states=states).sample  # fmt: skip
        clean = scheduler.step(noise, timesteps[STOP], latents).pred_original_sample
        with split.part("decode"):
            image = (vae.decode(clean / VAE["scaling_factor"]).sample / 2 + 0.5).clamp(0, 1)
        with split.part("reward"):
            rewards = model.score_gard(words.input_ids, words.attention_mask, preprocess(image))
        loss = F.relu(-rewards + 2).mean() * 1e-3
        with split.part("backward"):
            loss.backward()
        with split.part("update"):
            torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()

    return _steps(step, split, rounds)


def our_step(
    scorer: str,
    rounds: int,
    shape: str = "tiny",
    device: str = "cpu",
    precision: str = "fp32",
    pixels: int = PIXELS,
    batch: int = 1,
    checkpointing: bool = False,
) -> Figures:
    """The same step by our algorithm and optimiser, at the same settings: one sample, no distance term."""
    import tempfile
    from pathlib import Path

    import torch

    from benchmarks import ours
    from imagereward_ext.compute import diffusion_type
    from imagereward_ext.diffusion import lora
    from imagereward_ext.diffusion.placement import place
    from imagereward_ext.memory import peak_memory
    from imagereward_ext.refl import algorithm
    from imagereward_ext.refl.config import from_mapping
    from imagereward_ext.refl.encodings import Encodings
    from imagereward_ext.refl.fit import Fit
    from imagereward_ext.refl.rewards import checkpoint_layers
    from imagereward_ext.refl.session import Session
    from imagereward_ext.scorers import Reward
    from imagereward_ext.training.learner import Learner, adamw
    from imagereward_ext.training.processes import Processes

    on = torch.device(device)
    model = ours.load(scorer, device=device, precision=precision)
    with tempfile.TemporaryDirectory() as folder:
        parts = random_parts(Path(folder), shape, device, diffusion_type(on, precision))
    place(parts, on, diffusion_type(on, precision))
    parts.use_low_memory_layers()
    lora.inject(parts, lora.LoraShape(), 0)
    if checkpointing:
        parts.checkpoint_gradients()
        checkpoint_layers(model.modules())
    learner = Learner(adamw(parts.trainable(), 1e-4, 0.01), 1.0, precision == "fp16")
    encodings = Encodings(parts, PROMPTS, trained=False)
    encodings.prepare(PROMPTS)
    values = {"steps": STEPS, "first_step": STOP, "last_step": STOP, "width": pixels, "height": pixels}
    config = from_mapping({**values, "batch": batch, "kl_weight": 0.0})
    processes, split = Processes(device == "cpu"), Split(device)
    algorithm.roll_out = split.around("rollout", algorithm.roll_out)
    parts.decode = split.around("decode", parts.decode)  # type: ignore[method-assign]
    session = Session(
        config=config,
        parts=parts,
        reward=Reward.published(model),
        judge=None,
        learner=learner,
        encodings=encodings,
        captions=PROMPTS,
        checked=[],
        settings=config.sampling(pixels),
        fit=Fit(batch, checkpointing, pixels),
        calibrations={},
    )
    refl = algorithm.Algorithm(session)
    refl.reward = split.around("reward", refl.reward)
    numbers = iter(range(10**6))

    def step() -> None:
        terms = refl.reward_feedback(next(numbers), range(batch))
        with split.part("backward"):
            learner.backward(terms.total.mean())
        with split.part("update"):
            learner.step(processes)

    return _steps(step, split, rounds) | {
        "gpu_peak_gb": peak_memory(device) if device.startswith("cuda") else 0.0
    }


def random_parts(folder: Any, shape: str, device: str, dtype: Any) -> Any:
    """Build a diffusion model with random weights: a tiny one, or one of Stable Diffusion's own shapes."""
    from dataclasses import replace

    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel

    from imagereward_ext.diffusion.model_config import known
    from imagereward_ext.diffusion.parts import DiffusionParts
    from imagereward_ext.diffusion.text import TextEncoder
    from imagereward_ext.diffusion.tokenizer import Tokenizer
    from tests.diffusion.tiny_models import WORDS, tiny_config, write_vocabulary

    config = replace(tiny_config("sd1"), unet=UNET, vae=VAE) if shape == "tiny" else known(shape)  # type: ignore[arg-type]
    torch.manual_seed(0)
    with torch.device(device):
        unet = UNet2DConditionModel(**config.unet).to(dtype)
        vae = AutoencoderKL(**config.vae)
        texts = torch.nn.ModuleList(TextEncoder(t, len(WORDS) - 1) for t in config.text_encoders)
    return DiffusionParts(
        source=folder / f"random-{shape}.safetensors",
        config=config,
        unet=unet,
        vae=vae,
        text_encoders=texts,
        tokenizer=Tokenizer(write_vocabulary(folder / "tokenizer")),
    )


def learning(recipe: str, models: str, seconds: float, batch: int, held_out: int, training: int) -> Figures:
    """Train on the demo world for some time; how far the reward of held-out prompts rose.

    `ours` is every default of ours. `peer` is the published recipe on the same model, reward and batch: the whole UNet,
    AdamW at 1e-5, no distance term.
    """
    import tempfile
    from itertools import islice
    from pathlib import Path

    import torch

    from demo.world import grammar
    from imagereward_ext.diffusion.loading import load_parts
    from imagereward_ext.diffusion.sampling import generate
    from imagereward_ext.refl.config import from_mapping
    from imagereward_ext.refl.encodings import Encodings
    from imagereward_ext.refl.run_folder import RunFolder
    from imagereward_ext.refl.session import load_session
    from imagereward_ext.refl.training import LoraTraining
    from imagereward_ext.scorers import load_scorer
    from imagereward_ext.training.learner import Learner, adamw
    from imagereward_ext.training.processes import Processes

    with tempfile.TemporaryDirectory() as folder:
        prompts = list(islice(grammar.random_prompts(81, "train"), training))
        file = Path(folder, "prompts.txt")
        file.write_text("\n".join(prompts))
        config = from_mapping({
            "checkpoint": str(Path(models, "demo-world.safetensors")), "prompts": str(file), "name": "run",
            "output": folder, "scorers": "demo-reward", "batch": batch, "cpu": True, "updates": 10**6,
            **({"kl_weight": 0.0, "learning_rate": 1e-5} if recipe == "peer" else {}),
        })  # fmt: skip
        processes = Processes(True)
        session = load_session(config, prompts, processes, lambda name: load_scorer(name, device="cpu", folder=models),
                               lambda note: None)  # fmt: skip
        if recipe == "peer":
            for name, parameter in session.parts.unet.named_parameters():
                parameter.requires_grad_("lora_" not in name)  # the LoRA stays what it is at first: nothing
            session.learner = Learner(adamw(session.parts.trainable(), 1e-5, 0.01), 1.0)
        engine = LoraTraining(session, RunFolder.create(config), processes, lambda event: None).engine
        asked = list(islice(grammar.random_prompts(71, "held-out"), held_out))
        # The session's text encoders are gone by now, so the held-out prompts are read by another copy.
        encodings = Encodings(load_parts(Path(config.checkpoint)), asked, trained=False)
        encodings.prepare(asked)

        @torch.no_grad()
        def mean_reward() -> float:
            cond, negative = encodings.with_negative(asked, config.guidance)
            made = torch.stack(
                list(generate(session.parts, cond, negative, session.settings, range(held_out), 16))
            )
            return float(session.reward(made, asked).mean())

        before, started = mean_reward(), time.perf_counter()
        while time.perf_counter() - started < seconds:
            engine.update()
        minutes = (time.perf_counter() - started) / 60
        after = mean_reward()
    return {"before": before, "after": after, "updates": engine.step, "minutes": minutes,
            "gained_per_minute": (after - before) / minutes}  # fmt: skip
