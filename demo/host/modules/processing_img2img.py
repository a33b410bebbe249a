"""The img2img job, with inpainting over the whole picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps

from modules import devices, images, sd_samplers
from modules.processing_base import StableDiffusionProcessing


@dataclass(repr=False)
class StableDiffusionProcessingImg2Img(StableDiffusionProcessing):
    init_images: list[Any] | None = None
    resize_mode: int = 0
    mask: Any = None
    mask_blur: int = 4

    def init(self, all_prompts: Any, all_seeds: Any, all_subseeds: Any) -> None:
        self.extra_generation_params["Denoising strength"] = self.denoising_strength
        flat = [images.flatten(x, "white") for x in self.init_images]
        pictures = [images.resize_image(self.resize_mode, x, self.width, self.height) for x in flat]
        if len(pictures) == 1:
            pictures *= self.batch_size
        self.init_latent = self.sd_model.encode(sd_samplers.images_to_pixels(pictures))
        if self.mask is not None:
            self._init_mask(pictures)

    def _init_mask(self, pictures: list[Image.Image]) -> None:
        """Inpainting over the whole picture: white is painted anew, black is kept."""
        mask = self.mask
        mask = (mask.split()[-1] if mask.mode == "RGBA" else mask).convert("L")
        if self.mask_blur:
            mask = mask.filter(ImageFilter.GaussianBlur(self.mask_blur))
            self.extra_generation_params["Mask blur"] = self.mask_blur
        mask = images.resize_image(self.resize_mode, mask, self.width, self.height).convert("L")
        self.mask_for_overlay, self.overlay_images = mask, []
        for picture in pictures:
            overlay = picture.convert("RGBA")
            overlay.putalpha(ImageOps.invert(mask))
            self.overlay_images.append(overlay)
        small = np.asarray(mask.resize(self.init_latent.shape[:1:-1]), dtype=np.float32) / 255
        self.nmask = torch.from_numpy(np.around(small)).to(devices.device)

    def sample(self) -> torch.Tensor:
        noise = self.mask_noise = self.rng.next()
        latent, c, uc = self.init_latent[: len(self.prompts)], self.c, self.uc
        self.scripts.process_before_every_sampling(self, x=latent, noise=noise, c=c, uc=uc)
        sampler = sd_samplers.Sampler(self.sampler_name, self.sd_model)
        return sampler.sample_img2img(self, latent, noise, c, uc, self.steps)
