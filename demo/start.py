"""How the demo starts the small WebUI: this repository as its extension, the tiny models as its models."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from demo.world.configs import GUIDANCE

DEMO = Path(__file__).resolve().parent
ROOT = DEMO.parent
HOST = DEMO / "host"
MODELS = DEMO / "models"
DATA = DEMO / "data"
SCORER = "demo-reward"


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
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--data-dir", type=Path)
    _first_start(parser.parse_known_args(sys.argv[1:])[0].data_dir)


def scorer() -> str | None:
    """The name of the demo's scorer, where it lies among the models."""
    home = Path(os.environ.get("IMAGEREWARD_HOME", MODELS))
    return SCORER if (home / SCORER / "config.json").is_file() else None


def _first_start(data: Path) -> None:
    """Settings and controls to begin with: score everything with the demo's scorer, so that there is something to see."""
    if (data / "config.json").exists() or scorer() is None:
        return
    settings = {"imagereward_scorer": scorer(), "imagereward_always_score": True}
    controls = {
        "txt2img/Prompt/value": "a small red circle on the left on a blue background",
        "txt2img/Batch count/value": 4,
        "txt2img/CFG Scale/value": GUIDANCE,
        "img2img/CFG Scale/value": GUIDANCE,
    }
    data.mkdir(parents=True, exist_ok=True)
    (data / "ui-config.json").write_text(json.dumps(controls, indent=4), encoding="utf-8")
    (data / "config.json").write_text(json.dumps(settings, indent=4), encoding="utf-8")
