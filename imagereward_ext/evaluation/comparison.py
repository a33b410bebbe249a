"""A checkpoint before and after: what to compare, and the one way to do it, for the command line and a training alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagereward_ext.compute import PRECISIONS, Compute, diffusion_type
from imagereward_ext.diffusion.schedule import PREDICTIONS, SAMPLERS, SamplerName
from imagereward_ext.evaluation.report import Report
from imagereward_ext.settings import check, setting
from imagereward_ext.weights.catalogue import DEFAULT
from imagereward_ext.weights.spec import ScorerSpec
from imagereward_ext.wording import Say

if TYPE_CHECKING:
    from imagereward_ext.diffusion.parts import DiffusionParts
    from imagereward_ext.evaluation.variants import ImageSettings, Progress
    from imagereward_ext.scorers import Scorer


@dataclass(frozen=True)
class ComparisonRequest:
    """What is compared with what, how the images are made, and where the report goes."""

    base: Path
    """Checkpoint file or diffusers folder"""
    loras: tuple[Path, ...]
    prompts: tuple[str, ...]
    output: Path
    scorers: tuple[str, ...] = (DEFAULT,)
    weights: tuple[float, ...] = (1.0,)
    """LoRA weights to try"""
    vae: Path | None = None
    sampler: str = setting("dpm++", "Sampler", "how images are made", choices=SAMPLERS)
    steps: int = setting(20, "Steps", "from noise to image", low=1)
    guidance: float = setting(7.0, "Guidance", "CFG scale; 1 is none", low=1, high=30)
    negative: str = setting("", "Negative prompt", "what the images are not to show")
    width: int = setting(0, "Width", "pixels; 0 takes the model's own size", low=0)
    height: int = setting(0, "Height", "pixels; 0 takes the model's own size", low=0)
    seed: int = setting(0, "Seed", "of the first image; every further one takes the next")
    seeds: int = setting(1, "Seeds", "images per prompt", low=1)
    batch_size: int = setting(4, "Batch size", "images at once", low=1)
    clip_skip: int = setting(1, "Clip skip", "as in the WebUI", low=1)
    prediction: str = setting(
        "auto", "Prediction", "what the UNet predicts, where the file does not tell", choices=PREDICTIONS
    )
    precision: str = setting(
        "auto", "Precision", "auto is fp32 on a CPU and 16 bit elsewhere", choices=PRECISIONS
    )
    cpu: bool = setting(False, "CPU", "use no GPU")
    keep_images: bool = setting(False, "Keep images", "write every image into the output folder")
    scorer_folder: Path | None = None
    """Where scorers are looked for first"""
    download: bool = True

    def __post_init__(self) -> None:
        check(self)


def compare(request: ComparisonRequest, say: Say, progress: Progress | None = None) -> tuple[Report, Path]:
    """Make the same images with and without the LoRAs, score them, and write who wins; returns the report and its page."""
    from imagereward_ext.diffusion.loading import configuration
    from imagereward_ext.diffusion.lora_file import read_lora
    from imagereward_ext.evaluation.comparison_report import comparison_report
    from imagereward_ext.evaluation.variants import compare_variants, list_variants

    # Everything that can be wrong is looked at before anything large is loaded.
    variants = list_variants(request.loras, request.weights)
    model = configuration(request.base)
    image_settings(request, model.resolution)
    for path in request.loras:
        read_lora(path, model)
    scorers = {name: load_chosen(name, request, say) for name in request.scorers}
    parts = load_base(request)
    # A Stable Diffusion 2 file tells its resolution only when tried.
    settings = image_settings(request, parts.config.resolution)
    measured = compare_variants(
        parts,
        variants,
        request.prompts,
        settings,
        {name: scorer.score for name, scorer in scorers.items()},
        {name: scorer.calibration for name, scorer in scorers.items() if scorer.calibration is not None},
        request.output / "images" if request.keep_images else None,
        progress,
    )
    report = comparison_report(measured, settings, request.base.stem)
    return report, report.write(request.output)


def image_settings(request: ComparisonRequest, resolution: int) -> ImageSettings:
    """Return how the images are made, at the model's own resolution where none is asked for."""
    from imagereward_ext.diffusion.sampling import SamplingSettings
    from imagereward_ext.evaluation.variants import ImageSettings

    sampler: SamplerName = request.sampler  # type: ignore[assignment]  # checked against its choices
    width, height = request.width or resolution, request.height or resolution
    sampling = SamplingSettings(sampler, request.steps, request.guidance, width, height)
    return ImageSettings(sampling, request.negative, request.seed, request.seeds, request.batch_size)


def load_base(request: ComparisonRequest) -> DiffusionParts:
    """Load the checkpoint as it is asked for."""
    import torch

    from imagereward_ext.diffusion.loading import load_parts
    from imagereward_ext.diffusion.placement import place

    device = torch.device("cuda" if torch.cuda.is_available() and not request.cpu else "cpu")
    dtype = diffusion_type(device, request.precision)
    prediction: Any = None if request.prediction == "auto" else request.prediction
    parts = load_parts(request.base, request.vae, prediction, request.clip_skip, dtype)
    place(parts, device, dtype)
    return parts


def load_chosen(name: str, request: ComparisonRequest, say: Say) -> Scorer:
    """Load a scorer from where the request says."""
    from imagereward_ext.scorers import load_scorer

    spec = ScorerSpec(name, request.scorer_folder, request.download)
    return load_scorer(spec, compute=Compute.of_switch(request.cpu), report=say)
