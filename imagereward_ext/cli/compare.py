"""`compare`: make the same images with and without a LoRA, and say which are better."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagereward_ext.cli.exit_codes import ALL_GOOD
from imagereward_ext.cli.messages import say
from imagereward_ext.cli.scorer_options import add_weights_options, positive
from imagereward_ext.errors import UsageError
from imagereward_ext.weights.catalogue import DEFAULT

if TYPE_CHECKING:
    from imagereward_ext.diffusion.parts import DiffusionParts
    from imagereward_ext.evaluation.trials import Score

HELP = "compare a checkpoint with and without LoRAs"
DESCRIPTION = """\
Make images of the same prompts and seeds with a base model and with LoRAs, score them, and say who wins.

  compare model.safetensors nicer.safetensors --prompts held-out.txt --lora-weight 0.5 --lora-weight 1
  compare model.safetensors one.safetensors two.safetensors --prompts held-out.txt --scorer CLIP --scorer Aesthetic

Use the settings that you make images with, and at least one scorer that the LoRA was not trained with. Writes
comparison.md, .json, .csv and a contact sheet.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add = parser.add_argument
    add("base", type=Path, metavar="BASE", help="checkpoint file or diffusers folder")
    add("loras", type=Path, nargs="+", metavar="LORA", help="LoRA files")
    add("--prompts", type=Path, required=True, metavar="FILE", help="one prompt per line, or a JSON list")
    add("--output", type=Path, default=Path("comparison"), metavar="FOLDER", help="(default: %(default)s)")
    add("--scorer", action="append", metavar="NAME", help=f"may be given several times (default: {DEFAULT})")
    add(
        "--lora-weight",
        action="append",
        type=float,
        metavar="W",
        help="may be given several times (default: 1)",
    )
    add("--sampler", default="dpm++", help="ddpm, ddim or dpm++ (default: %(default)s)")
    add("--steps", type=positive, default=20, help="(default: %(default)s)")
    add("--guidance", type=float, default=7.0, help="CFG scale (default: %(default)s)")
    add("--negative", default="", metavar="TEXT", help="negative prompt")
    add("--width", type=int, default=0, help="pixels (default: the model's own)")
    add("--height", type=int, default=0, help="pixels (default: the model's own)")
    add(
        "--seed",
        type=int,
        default=0,
        help="of the first image; every further one takes the next (default: %(default)s)",
    )
    add("--seeds", type=positive, default=1, metavar="N", help="images per prompt (default: %(default)s)")
    add("--clip-skip", type=positive, default=1, help="as in the WebUI (default: %(default)s)")
    add("--vae", type=Path, metavar="FILE", help="another VAE")
    add(
        "--prediction",
        default="auto",
        choices=("auto", "epsilon", "v_prediction"),
        help="what the UNet predicts, where the file does not tell (default: auto)",
    )
    add(
        "--precision",
        default="auto",
        choices=("auto", "fp32", "bf16", "fp16"),
        help="auto is fp32 on a CPU and 16 bit elsewhere",
    )
    add("--batch-size", type=positive, default=4, metavar="N", help="images at once (default: %(default)s)")
    add("--keep-images", action="store_true", help="write every image into the output folder")
    add("--cpu", action="store_true", help="use no GPU")
    add_weights_options(parser.add_argument_group("weights"))


def run(arguments: argparse.Namespace) -> int:
    """Compare, print and write the report."""
    from imagereward_ext.diffusion.loading import configuration
    from imagereward_ext.diffusion.lora_file import read_lora
    from imagereward_ext.diffusion.prompts import read_prompts
    from imagereward_ext.evaluation.trials import make_candidates, run_trials
    from imagereward_ext.evaluation.trials_report import trials_report

    # Everything that can be wrong is looked at before anything large is loaded.
    prompts = read_prompts(arguments.prompts)
    candidates = make_candidates(arguments.loras, arguments.lora_weight or [1.0])
    model = configuration(arguments.base)
    _settings(arguments, model.resolution)
    for path in arguments.loras:
        read_lora(path, model)
    scorers = {name: _score(arguments, name) for name in arguments.scorer or [DEFAULT]}
    parts = _load(arguments)
    settings = _settings(
        arguments, parts.config.resolution
    )  # a Stable Diffusion 2 file tells it only when tried
    images = arguments.output / "images" if arguments.keep_images else None
    trials = run_trials(parts, candidates, prompts, settings, scorers, images, progress=_Bar())
    report = trials_report(trials, settings, arguments.base.stem)
    page = report.write(arguments.output)
    print(report.text())
    say(f"Wrote {page}")
    return ALL_GOOD


def _settings(arguments: argparse.Namespace, resolution: int) -> Any:
    from imagereward_ext.diffusion.sampling import SamplingSettings
    from imagereward_ext.diffusion.schedule import SAMPLERS
    from imagereward_ext.evaluation.trials import TrialSettings

    if arguments.sampler not in SAMPLERS:
        raise UsageError(f"--sampler is {arguments.sampler!r}; choose one of {', '.join(SAMPLERS)}")
    if not 1 <= arguments.guidance <= 30:
        raise UsageError(f"--guidance is {arguments.guidance}; expected 1 (none) to 30")
    width, height = arguments.width or resolution, arguments.height or resolution
    sampling = SamplingSettings(arguments.sampler, arguments.steps, arguments.guidance, width, height)
    return TrialSettings(sampling, arguments.negative, arguments.seed, arguments.seeds, arguments.batch_size)


def _load(arguments: argparse.Namespace) -> DiffusionParts:
    import torch

    from imagereward_ext.diffusion.loading import load_parts
    from imagereward_ext.diffusion.placement import choose_type, place

    device = torch.device("cuda" if torch.cuda.is_available() and not arguments.cpu else "cpu")
    dtype = choose_type(device, arguments.precision)
    prediction = None if arguments.prediction == "auto" else arguments.prediction
    parts = load_parts(arguments.base, arguments.vae, prediction, arguments.clip_skip, dtype)
    place(parts, device, dtype)
    return parts


def _score(arguments: argparse.Namespace, name: str) -> Score:
    from imagereward_ext.scorers import load_scorer

    scorer = load_scorer(
        name,
        device="cpu" if arguments.cpu else "auto",
        folder=arguments.weights_dir,
        download=not arguments.no_download,
        report=say,
    )
    score: Callable[[Sequence[Any], Sequence[str]], list[float]] = scorer.score
    return score


class _Bar:
    """A progress bar per candidate."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._label = ""

    def __call__(self, label: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if self._bar is None or self._label != label:
            self._label = label
            self._bar = tqdm(desc=label, total=total, unit="image", disable=None)
        self._bar.update(done - self._bar.n)
        if done == total:
            self._bar.close()
            self._bar = None
