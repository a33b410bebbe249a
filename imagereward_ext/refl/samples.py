"""Images of the fixed prompts and seeds: made for every check, written with their parameters inside."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from PIL import PngImagePlugin
from torch import Tensor

from imagereward_ext.diffusion.lora import adapters_disabled, merged_for_inference
from imagereward_ext.diffusion.pictures import to_image
from imagereward_ext.diffusion.sampling import generate
from imagereward_ext.refl.session import Session, lora_name
from imagereward_ext.storage import replacing
from imagereward_ext.training.states import writing

SAMPLE = "{:02d}.png"
PREVIEW = SAMPLE.format(0)
SAMPLER_LABELS = {"ddpm": "DDPM", "ddim": "DDIM", "dpm++": "DPM++ 2M"}


@torch.no_grad()
def draw(session: Session, rows: Iterable[int], at_once: int) -> list[Tensor]:
    """Make images of some of the checked prompts, by the model as it is now: (3, h, w) on the CPU."""
    rows, config = list(rows), session.config
    prompts, seeds = [session.checked[row] for row in rows], [config.seed + row for row in rows]
    cond, negative = session.encodings.with_negative(prompts, config.guidance)
    with merged_for_inference(session.parts):
        images = generate(session.parts, cond, negative, session.settings, seeds, at_once)
        return [pixels.float().cpu() for pixels in images]


def draw_by_base(session: Session, at_once: int) -> Tensor:
    """Make the base's images of all checked prompts."""
    with adapters_disabled(session.parts):
        return torch.stack(draw(session, range(len(session.checked)), at_once))


def write_samples(folder: Path, images: Tensor, session: Session, step: int) -> None:
    """Write the samples of a check, each with its parameters, as a WebUI would."""
    with writing(f"the samples {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        for number, pixels in enumerate(images):
            about = PngImagePlugin.PngInfo()
            about.add_text("parameters", parameters(session, number, step))
            with replacing(folder / SAMPLE.format(number)) as part:
                to_image(pixels).save(part, format="PNG", pnginfo=about)


def parameters(session: Session, number: int, step: int) -> str:
    """Return the line that a WebUI reads back: enough to make the same image there."""
    s, c = session.settings, session.config
    prompt = session.checked[number].replace("\n", " ")
    tag = f" <lora:{lora_name(c.name, step)}:1>" if step else ""
    return (
        f"{prompt}{tag}\nSteps: {s.steps}, Sampler: {SAMPLER_LABELS[s.sampler]}, CFG scale: {s.guidance:g}, "
        f"Seed: {c.seed + number}, Size: {s.width}x{s.height}, Model: {session.parts.source.stem}"
    )
