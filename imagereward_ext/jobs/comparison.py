"""The comparison after a training: the checkpoint and its LoRA at three weights, by the training's scorers and the judge."""

from __future__ import annotations

from pathlib import Path

from imagereward_ext.evaluation.comparison import ComparisonRequest
from imagereward_ext.jobs.order import JobError, Order
from imagereward_ext.jobs.runs import COMPARISON

WEIGHTS = (0.5, 0.8, 1.0)


def comparison_request(order: Order) -> ComparisonRequest:
    """Ask for what an order wants compared, with the checkpoint read as the training read it."""
    from imagereward_ext.refl.rewards import parse_mix
    from imagereward_ext.refl.run_folder import RunFolder

    made = order.record.read()
    if made is None or not made.lora:
        raise JobError(f"the run {order.name!r} has no LoRA to compare")
    config, _ = RunFolder(order.folder).read_config()
    scorers = [name for name, _ in parse_mix(config.scorers)] + ([config.judge] if config.judge else [])
    return ComparisonRequest(
        base=Path(config.checkpoint),
        loras=(order.folder / made.lora,),
        prompts=some_prompts(Path(order.compare_prompts or config.prompts), order.compare),
        output=order.folder / COMPARISON,
        scorers=tuple(scorers),
        weights=WEIGHTS,
        guidance=order.compare_guidance,
        width=config.width,
        height=config.height,
        clip_skip=config.clip_skip,
        vae=Path(config.vae) if config.vae else None,
        prediction=config.prediction,
        precision=config.precision,
        cpu=config.cpu,
        scorer_folder=Path(order.scorers) if order.scorers else None,
        download=order.download,
    )


def some_prompts(file: Path, most: int) -> tuple[str, ...]:
    """Choose prompts of a file at even distances, so that every theme of a list comes in."""
    from imagereward_ext.diffusion.prompts import read_prompts

    prompts = read_prompts(file)
    count = min(most, len(prompts))
    return tuple(prompts[number * len(prompts) // count].replace("\n", " ") for number in range(count))
