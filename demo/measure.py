"""Measure the demo world, and print what its README and model cards state: `python -m demo.measure`.

Everything is measured on prompts no model was trained with, with fixed seeds; intervals are 95 % bootstraps over prompts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from demo.build import MODELS
from demo.world import grammar
from demo.world.configs import GUIDANCE
from demo.world.judge import judge, look, verdict
from imagereward_ext.evaluation.statistics import Interval, mean_interval, preference_share, share_interval

if TYPE_CHECKING:
    from imagereward_ext.diffusion.parts import DiffusionParts
    from imagereward_ext.scorers.base import Scorer

MARGIN = 0.05
"""The judge agrees with a drawing when its own prompt holds and each prompt with a wrong fact holds less by this."""
PROMPTS_SEED = 71


def main(arguments: list[str] | None = None) -> None:
    """Measure all of it."""
    parser = argparse.ArgumentParser(prog="python -m demo.measure", description=__doc__)
    parser.add_argument("--models", type=Path, default=MODELS, help="where the models are")
    parser.add_argument("--prompts", type=int, default=200, help="held-out prompts (default: 200)")
    parser.add_argument("--drawings", type=int, default=1000, help="drawings for the judge (default: 1000)")
    parser.add_argument(
        "--guidance", type=float, default=GUIDANCE, help="of the model's images (default: %(default)g)"
    )
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args(arguments)
    figures = measure(options.models, options.prompts, options.drawings, options.guidance)
    for name, value in figures.items():
        print(f"{name}: {value}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2, default=str) + "\n", "utf-8")


def measure(models: Path, prompts: int, drawings: int, guidance: float = GUIDANCE) -> dict[str, Any]:
    """Take every measurement, by name."""
    from demo.world import artist, scorers
    from demo.world.rankings import places
    from imagereward_ext.scorers.loading import load_scorer

    figures: dict[str, Any] = {f"judge agrees with {drawings} drawings": judge_agreement(drawings)}
    figures |= {f"judge on {name} (mean of 200 prompts)": value for name, value in judge_on_nothing().items()}

    parts = artist.load(models)
    loaded = {t.name: load_scorer(str(models / t.name), device="cpu") for t in scorers.TRAININGS}
    texts = held_out_prompts(prompts)
    images = paint_held_out(parts, texts, guidance=guidance)
    truth = np.array([[judge(image, text) for image in row] for text, row in zip(texts, images, strict=True)])
    figures["guidance of the model's images"] = guidance
    figures[f"judge, mean of {prompts} held-out prompts"] = mean_interval(truth[:, 0])
    for name, scorer in loaded.items():
        scores = np.array([scorer.score(row, text) for text, row in zip(texts, images, strict=True)])
        kept = truth[np.arange(len(truth)), scores.argmax(axis=1)]
        figures[f"judge, best of {truth.shape[1]} by {name}"] = mean_interval(kept)
        figures[f"gain of the best of {truth.shape[1]} by {name}"] = mean_interval(kept - truth[:, 0])
        ordered = [preference_share(places(row), list(own)) for row, own in zip(truth, scores, strict=True)]
        figures[f"same-prompt pairs of the model's images, {name}"] = share_interval(ordered)
    figures[f"judge, best of {truth.shape[1]} by the judge itself"] = mean_interval(truth.max(axis=1))
    for name, share in pair_accuracies(loaded, parts, prompts).items():
        figures[f"held-out pairs, {name}"] = share
    return figures


def judge_agreement(count: int, seed: int = 17) -> float:
    """Draw scenes and count how often the judge accepts the right prompt and refuses one with a wrong fact."""
    rng = np.random.default_rng(seed)
    agreed = 0
    for _ in range(count):
        scene = grammar.random_scene(rng)
        view = look(grammar.draw(scene, rng))
        own, other = verdict(view, scene).score, verdict(view, grammar.corrupt(scene, rng)).score
        agreed += own >= 0.95 and other <= own - MARGIN
    return agreed / count


def judge_on_nothing(prompts: int = 200, seed: int = 18) -> dict[str, float]:
    """Show the judge images without content, under many prompts: the mean score of each."""
    rng = np.random.default_rng(seed)
    size = (grammar.SIZE, grammar.SIZE)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    grey = np.clip(rng.normal(128, 60, (*size, 1)), 0, 255).astype(np.uint8)
    images = {
        "blank white": Image.new("RGB", size, grammar.COLOURS["white"]),
        "blank red": Image.new("RGB", size, grammar.COLOURS["red"]),
        "colour noise": Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)),
        "grey noise": Image.fromarray(np.repeat(grey, 3, axis=2)),
        "smooth noise": coarse.resize(size, Image.Resampling.BICUBIC),
    }
    scenes = [grammar.random_scene(rng) for _ in range(prompts)]
    return {
        name: float(np.mean([verdict(view, scene).score for scene in scenes]))
        for name, view in ((name, look(image)) for name, image in images.items())
    }


def held_out_prompts(count: int) -> list[str]:
    """Take prompts of the held-out split that no ranking used."""
    return list(islice(grammar.random_prompts(PROMPTS_SEED, "held-out"), count))


def paint_held_out(
    parts: DiffusionParts, prompts: Sequence[str], each: int = 4, guidance: float = GUIDANCE
) -> list[list[Image.Image]]:
    """Make some images for every prompt, one seed for each."""
    from demo.world.artist import paint

    texts = [text for text in prompts for _ in range(each)]
    images = paint(parts, texts, [10_000 + i for i in range(len(texts))], guidance)
    return [images[start : start + each] for start in range(0, len(images), each)]


def pair_accuracies(scorers: dict[str, Scorer], parts: DiffusionParts, prompts: int) -> dict[str, Interval]:
    """Measure how often each scorer orders a held-out pair as the judge does."""
    import dataclasses

    from demo.world import rankings
    from demo.world.scorers import HELD_OUT
    from imagereward_ext.images import open_image
    from imagereward_ext.rankings import read_rankings

    plan = dataclasses.replace(HELD_OUT, prompts=prompts, painted=min(prompts, HELD_OUT.painted))
    shares: dict[str, list[Any]] = {name: [] for name in scorers}
    with tempfile.TemporaryDirectory() as folder:
        for ranked in read_rankings(rankings.write(Path(folder), plan, parts)):
            images = [open_image(path) for path in ranked.images]
            for name, scorer in scorers.items():
                shares[name].append(preference_share(ranked.ranks, scorer.score(images, ranked.prompt)))
    return {name: share_interval(found) for name, found in shares.items()}


if __name__ == "__main__":
    main()
