"""Train the demo world's model towards its reward, and measure what became better: `python -m demo.improve`.

The run uses the default guard rails, with `demo-witness` (a scorer that learned from other data) as their judge. Then
the base and the LoRA make images of held-out prompts with the settings of the demo's WebUI, and three look at
them: the reward it was trained on, the witness, and the pixel judge, which no training ever asks.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import islice
from pathlib import Path
from typing import Any

from demo.build import MODELS
from demo.world import grammar
from demo.world.configs import GUIDANCE, NAME
from demo.world.judge import judge

REWARD, WITNESS = "demo-reward", "demo-witness"
TRAINING_SEED, HELD_OUT_SEED = 81, 71

SETTINGS: dict[str, Any] = {
    "sampler": "ddim",
    "steps": 15,
    "first_step": 5,
    "last_step": 12,
    "guidance": GUIDANCE,
    "batch": 16,
    "micro_batch": 16,
    "updates": 250,
    "learning_rate": 7e-4,
    "kl_weight": 2e-4,
    "check_every": 10,
    "check_images": 32,
    "cpu": True,
}
"""What differs from the defaults of `train`: a model this small samples in fewer steps and learns faster."""

TARGETS = {"mean reward": 0.5, "win rate": 0.7, "pixel judge": 0.08}


def main(arguments: list[str] | None = None) -> int:
    """Train and measure; return 0 when every target is met."""
    parser = argparse.ArgumentParser(prog="python -m demo.improve", description=__doc__)
    parser.add_argument("--models", type=Path, default=MODELS, help="where the models are")
    parser.add_argument("--output", type=Path, default=Path("outputs/improve"), help="(default: %(default)s)")
    parser.add_argument("--prompts", type=int, default=2000, help="training prompts (default: %(default)s)")
    parser.add_argument("--held-out", type=int, default=200, help="held-out prompts (default: %(default)s)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="change a training setting"
    )
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    changes = dict(entry.split("=", 1) for entry in options.set)
    lora, seconds = train(options.models, options.output, options.prompts, changes)
    figures = measure(options.models, options.output, lora, options.held_out)
    figures["minutes of training"] = round(seconds / 60, 2)
    print(json.dumps(figures, indent=2))
    (options.output / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    return 0 if all(figures["targets met"].values()) else 1


def train(models: Path, output: Path, prompts: int, changes: dict[str, str]) -> tuple[Path, float]:
    """Train a LoRA on training prompts (or finish an interrupted run); returns the file and the seconds taken."""
    from imagereward_ext.cli.train import TrainingLog
    from imagereward_ext.refl.config import from_mapping, settings
    from imagereward_ext.refl.training import resume
    from imagereward_ext.refl.training import train as start
    from imagereward_ext.scorers.loading import load_scorer

    file = output / "training-prompts.txt"
    file.write_text(
        "\n".join(islice(grammar.random_prompts(TRAINING_SEED, "train"), prompts)) + "\n", "utf-8"
    )
    types = {setting.name: setting.type for setting in settings()}
    given = {name: _read(value, types[name]) for name, value in changes.items()}
    config = from_mapping({
        "checkpoint": str(models / f"{NAME}.safetensors"), "prompts": str(file), "name": "improved",
        "output": str(output / "runs"), "scorers": REWARD, "judge": WITNESS, **SETTINGS, **given,
    })  # fmt: skip

    def load(name: str) -> Any:
        return load_scorer(str(models / name), device="cpu")

    started = time.perf_counter()
    if (output / "runs" / "improved" / "config.json").exists():
        outcome = resume(config.output, config.name, {}, load, TrainingLog(config.updates))
    else:
        outcome = start(config, load, TrainingLog(config.updates))
    print(f"{outcome.reason}; LoRA of step {outcome.lora_step}")
    assert outcome.lora is not None
    return outcome.lora, time.perf_counter() - started


def _read(text: str, kind: type) -> Any:
    return text.lower() in ("1", "true", "on") if kind is bool else kind(text)


def measure(models: Path, output: Path, lora: Path, count: int) -> dict[str, Any]:
    """Compare base and LoRA on held-out prompts; writes the report and returns the figures."""
    from demo.world import artist
    from imagereward_ext.diffusion.sampling import SamplingSettings
    from imagereward_ext.evaluation.trials import TrialSettings, make_candidates, run_trials
    from imagereward_ext.evaluation.trials_report import trials_report
    from imagereward_ext.scorers.loading import load_scorer

    prompts = list(islice(grammar.random_prompts(HELD_OUT_SEED, "held-out"), count))
    sampling = SamplingSettings("ddim", artist.STEPS, GUIDANCE, grammar.SIZE, grammar.SIZE)
    settings = TrialSettings(sampling, batch=artist.BATCH)
    scorers = {name: load_scorer(str(models / name), device="cpu").score for name in (REWARD, WITNESS)}
    scorers["pixel judge"] = lambda images, texts: [judge(i, t) for i, t in zip(images, texts, strict=True)]
    trials = run_trials(artist.load(models), make_candidates([lora], [1.0]), prompts, settings, scorers)
    trials_report(trials, settings, NAME).write(output)
    label = trials.candidates[1].label
    gains = {name: trials.gain(label, name) for name in scorers}
    wins = {name: trials.wins(label, name) for name in scorers}
    return {
        "held-out prompts": count,
        "mean difference": {name: str(gain) for name, gain in gains.items()},
        "win rate": {name: rate.percent() for name, rate in wins.items()},
        "base": {name: sum(trials.scores["base"][name]) / count for name in scorers},
        "diversity": trials.diversities,
        "targets met": {
            "mean reward": gains[REWARD].value >= TARGETS["mean reward"],
            "win rate": wins[REWARD].value >= TARGETS["win rate"],
            "pixel judge": gains["pixel judge"].value >= TARGETS["pixel judge"]
            and gains["pixel judge"].low > 0,
        },
    }


if __name__ == "__main__":
    raise SystemExit(main())
