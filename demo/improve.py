"""Train the demo world's model towards its reward, and measure what became better: `python -m demo.improve`.

The run uses the default guard rails, with `demo-witness` (a scorer that learned from other data) as their judge. Then
the base and the LoRA make images of held-out prompts with the settings of the demo's WebUI, and three look at
them: the reward it was trained on, the witness, and the pixel judge, which no training ever asks.

`--methods refl raft filtering reward-weighted` trains with the other methods too, all else equal, and says who wins how
often against whom. `--guidance 1 3 5` compares at each of them. Tune by `--development`, other prompts than those that
are reported on.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo.build import MODELS
from demo.training import HELD_OUT_SEED, REWARD, SETTINGS, TRAINING_SEED, WITNESS
from demo.world import grammar
from demo.world.configs import GUIDANCE, NAME
from demo.world.judge import judge
from imagereward_ext.evaluation.variants import BASE

if TYPE_CHECKING:
    from imagereward_ext.evaluation.variants import Comparison

JUDGE = "pixel judge"
OTHERS: dict[str, dict[str, Any]] = {
    "dpo": {
        "prior_images": 1024,
        "images_per_prompt": 8,
        "beta": 60.0,
        "learning_rate": 1e-3,
        "batch": 8,
        "updates": 200,
        "check_every": 50,
    },
    "reward-weighted": {"prior_images": 1024},
    "filtering": {"prior_images": 1024},
    "raft": {"prior_images": 1024, "rounds": 4},
}
"""What the methods need that learn from images of the model's own making."""

TARGETS = {"mean reward": 0.15, "pixel judge": 0.03, "win rate": 0.588, "diversity": 0.95}
"""The reward's and the judge's gain, how often the judge prefers the LoRA's image, and the share of diversity that is left."""
REPORTED = 200
"""So many of the first held-out prompts are never tuned by."""
DEVELOPMENT_SEED = 72


def main(arguments: list[str] | None = None) -> int:
    """Train and measure; return 0 when every target is met."""
    parser = argparse.ArgumentParser(prog="python -m demo.improve", description=__doc__)
    parser.add_argument("--models", type=Path, default=MODELS, help="where the models are")
    parser.add_argument("--output", type=Path, default=Path("outputs/improve"), help="(default: %(default)s)")
    parser.add_argument("--prompts", type=int, default=2000, help="training prompts (default: %(default)s)")
    parser.add_argument(
        "--held-out", type=int, default=REPORTED, help="held-out prompts (default: %(default)s)"
    )
    parser.add_argument(
        "--development", action="store_true", help="compare on held-out prompts that are not reported on"
    )
    parser.add_argument(
        "--guidance",
        nargs="+",
        type=float,
        default=[GUIDANCE],
        help="compare at these (default: %(default)s)",
    )
    parser.add_argument("--weight", type=float, default=1.0, help="compare the LoRAs with this (default: 1)")
    parser.add_argument(
        "--methods", nargs="+", default=["refl"], choices=["refl", *OTHERS], help="(default: refl)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="change a training setting"
    )
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    changes = dict(entry.split("=", 1) for entry in options.set)
    loras, minutes = {}, {}
    for method in options.methods:
        loras[method], seconds = train(options.models, options.output, options.prompts, method, changes)
        minutes[method] = round(seconds / 60, 2)
    prompts = development_prompts(options.held_out) if options.development else held_out(options.held_out)
    figures: dict[str, Any] = {"held-out prompts": len(prompts), "minutes of training": minutes}
    for guidance in options.guidance:
        figures[f"guidance {guidance:g}"] = measure(
            options.models, options.output, loras, prompts, guidance, options.weight
        )
    print(json.dumps(figures, indent=2))
    (options.output / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    first = figures[f"guidance {options.guidance[0]:g}"]["methods"][options.methods[0]]
    return 0 if all(first["targets met"].values()) else 1


def held_out(count: int) -> list[str]:
    """Take the prompts that figures are reported on."""
    return list(islice(grammar.random_prompts(HELD_OUT_SEED, "held-out"), count))


def development_prompts(count: int) -> list[str]:
    """Take prompts of the same split to tune by: none of those that are reported on."""
    reported = set(held_out(REPORTED))
    others = (text for text in grammar.random_prompts(DEVELOPMENT_SEED, "held-out") if text not in reported)
    return list(islice(others, count))


def train(
    models: Path, output: Path, prompts: int, method: str, changes: dict[str, str]
) -> tuple[Path, float]:
    """Train a LoRA on training prompts (or go on with a run that is there); returns the file and the seconds taken."""
    from imagereward_ext.cli.train import TrainingLog
    from imagereward_ext.refl.config import TrainingConfig, from_mapping
    from imagereward_ext.refl.training import resume
    from imagereward_ext.refl.training import train as start
    from imagereward_ext.scorers.loading import load_scorer
    from imagereward_ext.settings import schema

    file = output / "training-prompts.txt"
    file.write_text(
        "\n".join(islice(grammar.random_prompts(TRAINING_SEED, "train"), prompts)) + "\n", "utf-8"
    )
    known = schema(TrainingConfig)
    given = {name: known[name].parse(value) for name, value in changes.items()}
    config = from_mapping({
        "checkpoint": str(models / f"{NAME}.safetensors"), "prompts": str(file), "name": method, "method": method,
        "output": str(output / "runs"), "scorers": REWARD, "judge": WITNESS,
        **SETTINGS, **OTHERS.get(method, {}), **given,
    })  # fmt: skip

    def load(name: str) -> Any:
        return load_scorer(str(models / name), device="cpu")

    started = time.perf_counter()
    if (output / "runs" / method / "config.json").exists():
        outcome = resume(
            config.output, config.name, {"updates": config.updates}, load, TrainingLog(config.updates)
        )
    else:
        outcome = start(config, load, TrainingLog(config.updates))
    print(f"{method}: {outcome.reason}; LoRA of step {outcome.lora_step}")
    assert outcome.lora is not None
    return outcome.lora, time.perf_counter() - started


def measure(
    models: Path,
    output: Path,
    loras: dict[str, Path],
    prompts: list[str],
    guidance: float = GUIDANCE,
    weight: float = 1.0,
) -> dict[str, Any]:
    """Compare the base and every method's LoRA on held-out prompts; writes the report and returns the figures."""
    from demo.world import artist
    from imagereward_ext.diffusion.sampling import SamplingSettings
    from imagereward_ext.evaluation.comparison_report import comparison_report
    from imagereward_ext.evaluation.variants import ImageSettings, compare_variants, list_variants
    from imagereward_ext.scorers.loading import load_scorer

    sampling = SamplingSettings("ddim", artist.STEPS, guidance, grammar.SIZE, grammar.SIZE)
    settings = ImageSettings(sampling, batch=artist.BATCH)
    scorers = {name: load_scorer(str(models / name), device="cpu").score for name in (REWARD, WITNESS)}
    scorers[JUDGE] = lambda images, texts: [judge(i, t) for i, t in zip(images, texts, strict=True)]
    variants = list_variants(list(loras.values()), [weight])
    measured = compare_variants(artist.load(models), variants, prompts, settings, scorers)
    comparison_report(measured, settings, NAME).write(output / f"guidance-{guidance:g}")
    labels = list(measured.results)
    return {
        "base": {name: sum(measured.results[BASE].scores[name]) / len(prompts) for name in scorers},
        "methods": {
            method: _figures(measured, label) for method, label in zip(loras, labels[1:], strict=True)
        },
        "win rates, row against column": {"of": labels}
        | {name: measured.win_matrix(name) for name in scorers if len(loras) > 1},
    }


def _figures(measured: Comparison, label: str) -> dict[str, Any]:
    """What one LoRA changed."""
    gains = {name: measured.gain(label, name) for name in measured.scorers}
    wins = {name: measured.wins(label, name) for name in measured.scorers}
    kept = measured.results[label].diversity / measured.results[BASE].diversity
    return {
        "mean difference": {name: str(gain) for name, gain in gains.items()},
        "win rate": {name: rate.percent() for name, rate in wins.items()},
        "diversity, share of the base's": kept,
        "verdict": measured.verdict(label),
        "targets met": {
            "mean reward": gains[REWARD].value >= TARGETS["mean reward"],
            "pixel judge": gains[JUDGE].value >= TARGETS["pixel judge"] and gains[JUDGE].low > 0,
            "win rate": wins[JUDGE].value >= TARGETS["win rate"] and wins[JUDGE].low > 0.5,
            "diversity": kept >= TARGETS["diversity"],
        },
    }


if __name__ == "__main__":
    raise SystemExit(main())
