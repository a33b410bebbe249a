"""What every generation job holds: what was asked for, how far it is, and, at the end, what came of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import torch

from modules import processing_infotext, rng, scripts, shared
from modules.shared import state


@dataclass(repr=False)
class StableDiffusionProcessing:
    """What one job was asked to do, and, while it runs, how far it is."""

    sd_model: object = None  # a property below: the loaded model, whatever is given
    outpath_samples: str | None = None
    outpath_grids: str | None = None
    prompt: Any = ""
    negative_prompt: Any = ""
    styles: list[str] | None = None
    seed: Any = -1
    subseed: Any = -1
    subseed_strength: float = 0
    sampler_name: str | None = None
    scheduler: str | None = None
    batch_size: int = 1
    n_iter: int = 1
    steps: int = 50
    cfg_scale: float = 7.0
    width: int = 512
    height: int = 512
    do_not_save_samples: bool = False
    do_not_save_grid: bool = False
    extra_generation_params: dict[str, Any] | None = None
    denoising_strength: float = 0.75
    override_settings: dict[str, Any] | None = None
    override_settings_restore_afterwards: bool = True
    firstpass_image: Any = None

    def __post_init__(self) -> None:
        self.styles = self.styles or []
        self.extra_generation_params = self.extra_generation_params or {}
        self.override_settings = self.override_settings or {}
        # A job without scripts, as another script may make one, has nobody to call.
        self.scripts, self.script_args = scripts.ScriptRunner(), ()
        self.comments: dict[str, int] = {}
        self.all_prompts = self.all_negative_prompts = self.all_seeds = self.all_subseeds = None
        self.main_prompt = self.main_negative_prompt = None
        self.iteration = 0
        self.prompts = self.negative_prompts = self.seeds = self.subseeds = None  # of the batch at hand
        self.c = self.uc = self.rng = self.overlay_images = None

    @property
    def sd_model(self) -> Any:  # noqa: F811
        return shared.sd_model

    @sd_model.setter
    def sd_model(self, value: Any) -> None:
        pass

    def comment(self, text: str) -> None:
        self.comments[text] = 1

    def close(self) -> None:
        self.c = self.uc = None

    def setup_prompts(self) -> None:
        """One prompt and one negative prompt for each image, styles applied."""
        given, negative, styles = self.prompt, self.negative_prompt, shared.prompt_styles
        count = next(
            (len(x) for x in (given, negative) if isinstance(x, list)), self.batch_size * self.n_iter
        )
        prompts = given if isinstance(given, list) else [given] * count
        negatives = negative if isinstance(negative, list) else [negative] * count
        self.all_prompts = [styles.apply_styles_to_prompt(x, self.styles) for x in prompts]
        self.all_negative_prompts = [
            styles.apply_negative_styles_to_prompt(x, self.styles) for x in negatives
        ]
        self.main_prompt, self.main_negative_prompt = self.all_prompts[0], self.all_negative_prompts[0]

    def setup_batch(self) -> None:
        """The prompts and seeds of the batch at hand, out of those of the job."""
        self.prompts = self.of_batch(self.all_prompts)
        self.negative_prompts = self.of_batch(self.all_negative_prompts)
        self.seeds, self.subseeds = self.of_batch(self.all_seeds), self.of_batch(self.all_subseeds)

    def of_batch(self, values: list[Any]) -> list[Any]:
        """The part of a list over all images that belongs to the batch at hand."""
        return values[self.iteration * self.batch_size : (self.iteration + 1) * self.batch_size]

    def encoded(self, prompts: list[str]) -> torch.Tensor:
        return self.sd_model.encode_prompts(prompts, shared.opts.CLIP_stop_at_last_layers)

    def save_samples(self) -> bool:
        stopped = state.interrupted or state.skipped
        keep = shared.opts.save_incomplete_images or not stopped
        return shared.opts.samples_save and not self.do_not_save_samples and keep

    def new_rng(self, height: int, width: int) -> rng.ImageRNG:
        shape = (self.sd_model.unet.config.in_channels, height, width)
        return rng.ImageRNG(shape, self.seeds, self.subseeds, self.subseed_strength)


OF_JOB = """subseed_strength width height sampler_name cfg_scale steps batch_size sd_model_name sd_model_hash
    denoising_strength extra_generation_params styles""".split()
LISTS = "all_prompts all_negative_prompts all_seeds all_subseeds infotexts".split()
TOLD = [*OF_JOB, *LISTS, *"seed subseed index_of_first_image job_timestamp clip_skip version".split()]


class Processed:
    """The images of a job and what is known of each. Scripts may take images out: the lists move together."""

    def __init__(
        self,
        p: Any,
        images_list: list[Any],
        seed: Any = -1,
        info: str = "",
        subseed: Any = None,
        index_of_first_image: int = 0,
        infotexts: list[str] | None = None,
    ):
        def first(value: Any) -> Any:
            return value[0] if isinstance(value, list) else value

        for name in OF_JOB:
            setattr(self, name, getattr(p, name))
        self.images, self.index_of_first_image = images_list, index_of_first_image
        self.prompt, self.negative_prompt = first(p.prompt), first(p.negative_prompt)
        self.seed, self.subseed = int(first(seed)), int(first(-1 if subseed is None else subseed))
        self.info, self.infotexts = info, infotexts or [info] * len(images_list)
        self.comments = "".join(f"{comment}\n" for comment in p.comments)
        self.job_timestamp, self.version = state.job_timestamp, processing_infotext.VERSION
        self.clip_skip = shared.opts.CLIP_stop_at_last_layers
        self.all_prompts = p.all_prompts or [self.prompt]
        self.all_negative_prompts = p.all_negative_prompts or [self.negative_prompt]
        self.all_seeds, self.all_subseeds = p.all_seeds or [self.seed], p.all_subseeds or [self.subseed]

    def js(self) -> str:
        """The job as JSON for the page and the API; what JSON cannot say is null."""
        first = {
            "prompt": next(iter(self.all_prompts), ""),
            "negative_prompt": next(iter(self.all_negative_prompts), ""),
        }
        return json.dumps(first | {name: getattr(self, name) for name in TOLD}, default=lambda o: None)

    def infotext(self, p: Any, index: int) -> str:
        return processing_infotext.create_infotext(
            p,
            self.all_prompts,
            self.all_seeds,
            self.all_subseeds,
            position_in_batch=index % self.batch_size,
            iteration=index // self.batch_size,
        )
