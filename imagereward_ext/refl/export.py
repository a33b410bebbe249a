"""The LoRA files of a run."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from imagereward_ext.diffusion.checkpoint import file_digest, old_hash
from imagereward_ext.diffusion.lora import trained_layers
from imagereward_ext.diffusion.lora_file import LoraOrigin, write_lora
from imagereward_ext.errors import ImageError
from imagereward_ext.images import open_image
from imagereward_ext.refl.checks import Check
from imagereward_ext.refl.run_folder import RunFolder
from imagereward_ext.refl.samples import PREVIEW
from imagereward_ext.refl.session import Session, lora_name
from imagereward_ext.storage import replacing


def write(session: Session, folder: RunFolder, step: int, checks: Sequence[Check]) -> Path:
    """Write the LoRA into the run folder, and into the user's LoRA folder if there is one."""
    name = lora_name(session.config.name, step)
    path = folder.path / f"{name}.safetensors"
    write_lora(
        path, trained_layers(session.parts), origin(session, name, step, checks), _preview(folder, step)
    )
    if session.config.lora_dir:
        target = Path(session.config.lora_dir).expanduser()
        target.mkdir(parents=True, exist_ok=True)
        for suffix in (".png", ".json", ".safetensors"):
            if path.with_suffix(suffix).exists():
                with replacing(target / f"{name}{suffix}") as part:
                    shutil.copyfile(path.with_suffix(suffix), part)
    return path


def _preview(folder: RunFolder, step: int) -> Image.Image | None:
    """Return a picture of what was learned; that there is none does not cost the LoRA."""
    try:
        return open_image(folder.samples_of(step) / PREVIEW)
    except ImageError:
        return None


def origin(session: Session, name: str, step: int, checks: Sequence[Check]) -> LoraOrigin:
    """Say where the LoRA comes from."""
    c, s = session.config, session.settings
    first, now = (next((k for k in checks if k.step == wanted), None) for wanted in (0, step))
    measured = ""
    if first is not None and now is not None and step:
        measured = f" Reward on the fixed prompts: {first.reward:.3f} -> {now.reward:.3f}."
    training = {
        "ss_steps": str(step),
        "ss_max_train_steps": str(c.updates),
        "ss_learning_rate": str(c.learning_rate),
        "ss_total_batch_size": str(c.batch),
        "ss_optimizer": "AdamW",
        "ss_max_grad_norm": str(c.clip),
        "ss_seed": str(c.seed),
        "ss_clip_skip": str(c.clip_skip),
        "ss_training_comment": f"ImageReward {c.method}: {c.scorers}",
        "ss_network_args": f'{{"targets": "{c.targets}"}}',
    }
    return LoraOrigin(
        name=name,
        model=session.parts.config,
        shape=c.lora_shape(),
        base_name=session.parts.source.name,
        base_sha256=file_digest(session.parts.source),
        base_old_hash=old_hash(session.parts.source),
        width=s.width,
        height=s.height,
        description=f"Trained by {c.method} towards {c.scorers}, {step} updates of {c.batch} images.{measured}",
        training=training,
        notes=f"Base model: {session.parts.source.stem}. Works best on it; lower the weight when images look overdone.",
    )
