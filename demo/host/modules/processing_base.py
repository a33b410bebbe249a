"""What every generation job holds: what was asked for, how far it is, and, at the end, what came of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import torch

from modules import extra_networks, processing_infotext, prompt_parser, rng, shared
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
    seed_resize_from_h: int = -1
    seed_resize_from_w: int = -1
    sampler_name: str | None = None
    scheduler: str | None = None
    batch_size: int = 1
    n_iter: int = 1
    steps: int = 50
    cfg_scale: float = 7.0
    width: int = 512
    height: int = 512
    restore_faces: bool | None = None
    tiling: bool | None = None
    do_not_save_samples: bool = False
    do_not_save_grid: bool = False
    extra_generation_params: dict[str, Any] | None = None
    overlay_images: list[Any] | None = None
    eta: float | None = None
    denoising_strength: float | None = None
    override_settings: dict[str, Any] | None = None
    override_settings_restore_afterwards: bool = True
    sampler_index: Any = None
    disable_extra_networks: bool = False
    firstpass_image: Any = None

    scripts_value: Any = field(default=None, init=False)
    script_args_value: Any = field(default=None, init=False)
    scripts_setup_complete: bool = field(default=False, init=False)
    comments: dict[str, int] = field(default_factory=dict, init=False)
    sampler: Any = field(default=None, init=False)
    is_using_inpainting_conditioning: bool = field(default=False, init=False)
    paste_to: Any = field(default=None, init=False)
    is_hr_pass: bool = field(default=False, init=False)
    c: Any = field(default=None, init=False)
    uc: Any = field(default=None, init=False)
    rng: Any = field(default=None, init=False)
    color_corrections: Any = field(default=None, init=False)
    all_prompts: Any = field(default=None, init=False)
    all_negative_prompts: Any = field(default=None, init=False)
    all_seeds: Any = field(default=None, init=False)
    all_subseeds: Any = field(default=None, init=False)
    iteration: int = field(default=0, init=False)
    main_prompt: Any = field(default=None, init=False)
    main_negative_prompt: Any = field(default=None, init=False)
    prompts: Any = field(default=None, init=False)
    negative_prompts: Any = field(default=None, init=False)
    seeds: Any = field(default=None, init=False)
    subseeds: Any = field(default=None, init=False)
    extra_network_data: Any = field(default=None, init=False)
    user: str | None = field(default=None, init=False)
    sd_model_name: Any = field(default=None, init=False)
    sd_model_hash: Any = field(default=None, init=False)
    sd_vae_name: Any = field(default=None, init=False)
    sd_vae_hash: Any = field(default=None, init=False)
    is_api: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.styles = self.styles or []
        self.extra_generation_params = self.extra_generation_params or {}
        self.override_settings = self.override_settings or {}
        self.script_args_value = self.script_args_value or {}

    @property
    def sd_model(self) -> Any:  # noqa: F811
        return shared.sd_model

    @sd_model.setter
    def sd_model(self, value: Any) -> None:
        pass

    @property
    def scripts(self) -> Any:
        return self.scripts_value

    @scripts.setter
    def scripts(self, value: Any) -> None:
        self.scripts_value = value
        self._setup_scripts_once()

    @property
    def script_args(self) -> Any:
        return self.script_args_value

    @script_args.setter
    def script_args(self, value: Any) -> None:
        self.script_args_value = value
        self._setup_scripts_once()

    def _setup_scripts_once(self) -> None:
        if self.scripts_value and self.script_args_value and not self.scripts_setup_complete:
            self.scripts_setup_complete = True
            self.scripts_value.setup_scripts(self, is_ui=not self.is_api)

    def comment(self, text: str) -> None:
        self.comments[text] = 1

    def init(self, all_prompts: Any, all_seeds: Any, all_subseeds: Any) -> None: ...

    def sample(self, conditioning: Any, unconditional_conditioning: Any, **of_batch: Any) -> torch.Tensor:
        raise NotImplementedError(
            f"{type(self).__name__} does not say how it samples"
        )  # txt2img and img2img do

    def close(self) -> None:
        self.sampler = self.c = self.uc = None

    def setup_prompts(self) -> None:
        """One prompt and one negative prompt for each image, styles applied."""
        count = self.batch_size * self.n_iter
        given, negative = self.prompt, self.negative_prompt
        if isinstance(given, list):
            count = len(given)
        elif isinstance(negative, list):
            count = len(negative)
        prompts = given if isinstance(given, list) else [given] * count
        negatives = negative if isinstance(negative, list) else [negative] * count
        if len(prompts) != len(negatives):
            raise RuntimeError(f"{len(prompts)} prompts do not go with {len(negatives)} negative prompts")
        database = shared.prompt_styles
        self.all_prompts = [database.apply_styles_to_prompt(x, self.styles) for x in prompts]
        self.all_negative_prompts = [
            database.apply_negative_styles_to_prompt(x, self.styles) for x in negatives
        ]
        self.main_prompt = self.all_prompts[0]
        self.main_negative_prompt = self.all_negative_prompts[0]

    def setup_conds(self) -> None:
        skip = shared.opts.CLIP_stop_at_last_layers
        self.uc = prompt_parser.encode(self.sd_model, self.negative_prompts, skip)
        self.c = prompt_parser.encode(self.sd_model, self.prompts, skip)

    def parse_extra_network_prompts(self) -> None:
        self.prompts, self.extra_network_data = extra_networks.parse_prompts(self.prompts)

    def save_samples(self) -> bool:
        stopped = state.interrupted or state.skipped
        keep = shared.opts.save_incomplete_images or not stopped
        return shared.opts.samples_save and not self.do_not_save_samples and keep

    def new_rng(self, height: int, width: int) -> rng.ImageRNG:
        shape = (self.sd_model.unet.config.in_channels, height, width)
        return rng.ImageRNG(shape, self.seeds, subseeds=self.subseeds, subseed_strength=self.subseed_strength)

    def of_batch(self, values: list[Any]) -> list[Any]:
        """The part of a list over all images that belongs to the batch at hand."""
        return values[self.iteration * self.batch_size : (self.iteration + 1) * self.batch_size]


class Processed:
    """The images of a job and what is known of each. Scripts may take images out: the lists move together."""

    def __init__(
        self,
        p: Any,
        images_list: list[Any],
        seed: Any = -1,
        info: str = "",
        subseed: Any = None,
        all_prompts: Any = None,
        all_negative_prompts: Any = None,
        all_seeds: Any = None,
        all_subseeds: Any = None,
        index_of_first_image: int = 0,
        infotexts: list[str] | None = None,
        comments: str = "",
    ):
        def first(value: Any) -> Any:
            return value[0] if isinstance(value, list) else value

        copied = (
            "subseed_strength width height sampler_name cfg_scale steps batch_size restore_faces sd_model_name "
            "sd_model_hash sd_vae_name sd_vae_hash seed_resize_from_w seed_resize_from_h denoising_strength "
            "extra_generation_params styles is_using_inpainting_conditioning eta"
        )
        for name in copied.split():
            setattr(self, name, getattr(p, name, None))
        self.images = images_list
        self.prompt, self.negative_prompt = first(p.prompt), first(p.negative_prompt)
        self.seed = int(first(seed)) if seed is not None else -1
        self.subseed = int(first(subseed)) if subseed is not None else -1
        self.info = info
        self.comments = "".join(f"{comment}\n" for comment in p.comments)
        self.index_of_first_image = index_of_first_image
        self.job_timestamp = state.job_timestamp
        self.clip_skip = shared.opts.CLIP_stop_at_last_layers
        self.all_prompts = all_prompts or p.all_prompts or [self.prompt]
        self.all_negative_prompts = all_negative_prompts or p.all_negative_prompts or [self.negative_prompt]
        self.all_seeds = all_seeds or p.all_seeds or [self.seed]
        self.all_subseeds = all_subseeds or p.all_subseeds or [self.subseed]
        self.infotexts = infotexts or [info] * len(images_list)
        self.version = processing_infotext.program_version()

    def js(self) -> str:
        """The job as JSON for the page and the API; what JSON cannot say is null."""
        names = (
            "all_prompts all_negative_prompts seed all_seeds subseed all_subseeds subseed_strength width height "
            "sampler_name cfg_scale steps batch_size restore_faces sd_model_name sd_model_hash sd_vae_name sd_vae_hash "
            "seed_resize_from_w seed_resize_from_h denoising_strength extra_generation_params index_of_first_image "
            "infotexts styles job_timestamp clip_skip is_using_inpainting_conditioning version"
        )
        obj = {
            "prompt": next(iter(self.all_prompts), ""),
            "negative_prompt": next(iter(self.all_negative_prompts), ""),
            **{name: getattr(self, name) for name in names.split()},
        }
        return json.dumps(obj, default=lambda o: None)

    def infotext(self, p: Any, index: int) -> str:
        return processing_infotext.create_infotext(
            p,
            self.all_prompts,
            self.all_seeds,
            self.all_subseeds,
            position_in_batch=index % self.batch_size,
            iteration=index // self.batch_size,
        )
