"""Makes the images to denoise: by the base or the current model, or from a user's folder; once, or once a round."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor

from imagereward_ext.diffusion.lora import adapters_disabled, merged_for_inference
from imagereward_ext.diffusion.sampling import generate_latents
from imagereward_ext.refl.methods import find_method
from imagereward_ext.refl.pool import Pool, captioned_images, encoded_images, read_pool, write_pool
from imagereward_ext.refl.run_folder import RunFolder
from imagereward_ext.refl.session import Session, pool_prompts
from imagereward_ext.training.event_log import EventLog
from imagereward_ext.training.processes import Processes
from imagereward_ext.training.randomness import derived_seed


class PoolMaker:
    """The pools of one run, each kept on disk, so that a resumed run has the same."""

    def __init__(self, session: Session, folder: RunFolder, processes: Processes, log: EventLog) -> None:
        self.session, self.config = session, session.config
        self.method = find_method(session.config.method)
        self.folder, self.processes, self.log = folder, processes, log
        self._number = -1
        self._chosen: Pool | None = None

    def pool(self, step: int, at_once: int) -> Pool | None:
        """Return what the update after so many is to choose from; None where it denoises no images."""
        if not self.config.uses_prior:
            return None
        rounds = self.config.rounds if self.method.in_rounds else 1
        number = step * rounds // self.config.updates
        if number != self._number:
            pool = self._read_or_made(number, step, at_once)
            self._chosen, self._number = pool.rows(self.method.kept(pool, self.config.keep_share)), number
        return self._chosen

    def _read_or_made(self, number: int, step: int, at_once: int) -> Pool:
        file = self.folder.pool_file(number)
        if file.exists():
            return read_pool(file)
        self.log.note(step, "encoding the images" if self.config.images else "making the images to denoise")
        pool = self._of_folder(at_once) if self.config.images else self._made(number, at_once)
        self.processes.wait()
        if self.processes.main:
            write_pool(pool, file)
        return pool

    def _of_folder(self, at_once: int) -> Pool:
        paths = [path for path, _ in captioned_images(Path(self.config.images))]
        settings = self.session.settings
        latents = encoded_images(self.session.parts, paths, settings.width, settings.height)
        rewards = self._rewards(latents, self.session.captions, at_once)
        return Pool(latents, torch.arange(len(paths)), rewards)

    @torch.no_grad()
    def _made(self, number: int, at_once: int) -> Pool:
        """Let the base, or in rounds the current model, make images, spread over the processes."""
        session, config = self.session, self.config
        texts = pool_prompts(config, session.captions)
        share = self.processes.share(len(texts))
        seeds = [derived_seed(config.seed, "pool-image", number, row) for row in share]
        model = nullcontext() if self.method.in_rounds else adapters_disabled(session.parts)
        with model:
            cond, negative = session.encodings.with_negative([texts[row] for row in share], config.guidance)
            with merged_for_inference(session.parts):
                made = generate_latents(session.parts, cond, negative, session.settings, seeds, at_once)
                images = [latents.cpu() for latents in made]
        latents = torch.stack(self.processes.collect(images))
        numbers = {text: index for index, text in enumerate(session.captions)}
        return Pool(
            latents, torch.tensor([numbers[text] for text in texts]), self._rewards(latents, texts, at_once)
        )

    @torch.no_grad()
    def _rewards(self, latents: Tensor, texts: Sequence[str], at_once: int) -> Tensor:
        """Score images, unless they are a prior: that is denoised whatever it is worth."""
        if self.method.rolls_out:
            return torch.zeros(len(latents))
        rewards = []
        for start in range(0, len(latents), at_once):
            rows = slice(start, start + at_once)
            pixels = self.session.parts.decode(latents[rows].to(self.processes.device))
            rewards.append(self.session.reward(pixels, texts[rows]).float().cpu())
        return torch.cat(rewards)
