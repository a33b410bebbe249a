"""How the demo starts the small WebUI: this repository as its extension, the tiny models as its models."""

from __future__ import annotations

import json
import os
import sys
from itertools import islice
from pathlib import Path

from demo.training import QUICK, REWARD, TRAINING_SEED, WITNESS
from demo.world import grammar
from demo.world.configs import GUIDANCE

DEMO = Path(__file__).resolve().parent
ROOT = DEMO.parent
HOST = DEMO / "host"
MODELS = DEMO / "models"
DATA = DEMO / "data"
PROMPTS, PROMPT_COUNT = "demo-world.txt", 1000

REFL = {
    "Prompts": "from a file",
    "File": PROMPTS,
    "Judge": WITNESS,
    "Prompts to compare before and after": 30,
    "Guidance of the comparison": GUIDANCE,
    "Sampler": QUICK["sampler"],
    "Steps": QUICK["steps"],
    "First step": QUICK["first_step"],
    "Last step": QUICK["last_step"],
    "Guidance": QUICK["guidance"],
    "Batch": QUICK["batch"],
    "Micro-batch": QUICK["micro_batch"],
    "Updates": QUICK["updates"],
    "Learning rate": QUICK["learning_rate"],
    "Distance weight": QUICK["kl_weight"],
    "Check every": QUICK["check_every"],
    "Check images": QUICK["check_images"],
}
"""What the fields of the ReFL tab begin with, by their labels: its defaults are for real models, and take hours here."""


def prepare(flags: list[str]) -> None:
    """Make `modules` importable and give the host its flags, as if it had been started by itself."""
    # A WebUI has an extension's root on sys.path only while its scripts load: neither has the host here.
    outside = [p for p in sys.path if Path(p or ".").resolve() != ROOT]
    sys.path[:] = [str(HOST), *outside]
    inherited = [
        p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p and Path(p).resolve() != ROOT
    ]
    os.environ["PYTHONPATH"] = os.pathsep.join(inherited)
    os.environ.setdefault("IMAGEREWARD_HOME", str(MODELS))
    given = {flag.partition("=")[0] for flag in flags}
    defaults = {"--data-dir": DATA, "--ckpt-dir": MODELS}
    missing = [word for flag, value in defaults.items() if flag not in given for word in (flag, str(value))]
    # What the host calls itself in its usage and errors is what a person typed.
    sys.argv = ["demo", *missing, "--extension", str(ROOT), *flags]
    from modules import cmd_args

    _first_start(Path(cmd_args.parse().data_dir))


def scorer() -> str | None:
    """The name of the demo's scorer, where it lies among the models."""
    return REWARD if _has(REWARD) else None


def _has(name: str) -> bool:
    home = Path(os.environ.get("IMAGEREWARD_HOME", MODELS))
    return (home / name / "config.json").is_file()


def _first_start(data: Path) -> None:
    """Settings and controls to begin with: score everything with the demo's scorer, so that there is something to see."""
    if (data / "config.json").exists() or scorer() is None:
        return
    settings = {"imagereward_scorer": scorer(), "imagereward_always_score": True}
    refl = REFL if _has(WITNESS) else REFL | {"Judge": ""}
    controls = {
        "txt2img/Prompt/value": "a small red circle on the left on a blue background",
        "txt2img/Batch count/value": 4,
        "txt2img/CFG Scale/value": GUIDANCE,
        "img2img/CFG Scale/value": GUIDANCE,
        **{f"imagereward_refl/{label}/value": value for label, value in refl.items()},
    }
    prompts = data / "models" / "ImageReward" / "prompts" / PROMPTS
    prompts.parent.mkdir(parents=True, exist_ok=True)
    chosen = islice(grammar.random_prompts(TRAINING_SEED, "train"), PROMPT_COUNT)
    prompts.write_text("\n".join(chosen) + "\n", encoding="utf-8")
    (data / "ui-config.json").write_text(json.dumps(controls, indent=4), encoding="utf-8")
    (data / "config.json").write_text(json.dumps(settings, indent=4), encoding="utf-8")
