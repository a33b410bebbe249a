"""What a run leaves behind: ``runs/<name>/`` with config, events, samples, states and LoRA files."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from imagereward_ext import __version__
from imagereward_ext.refl.config import TrainingConfig, check_name, from_mapping
from imagereward_ext.refl.methods import find_method
from imagereward_ext.settings import FieldError
from imagereward_ext.storage import write_text
from imagereward_ext.training.states import RunError, States, writing

PACKAGES = ("torch", "diffusers", "transformers", "peft", "accelerate", "safetensors")
CHANGEABLE = (
    "updates",
    "check_every",
    "save_every",
    "lora_every",
    "lora_dir",
    "micro_batch",
    "output",
    "name",
    "cpu",
)
"""Settings that a resumed run may take anew: none of them changes what an update computes."""


class RunFolder:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / "config.json"
        self.events_file = path / "events.jsonl"
        self.samples = path / "samples"
        self.states = States(path / "states")

    def samples_of(self, step: int) -> Path:
        """Return the folder of the images after so many updates."""
        return self.samples / f"step-{step:06d}"

    def pool_file(self, number: int) -> Path:
        """Return where the images to denoise are, those of one round."""
        return self.path / f"pool-{number}.safetensors"

    @classmethod
    def create(cls, config: TrainingConfig) -> RunFolder:
        """Make the folder of a new run."""
        check_name(config.name)
        run = cls(Path(config.output).expanduser() / config.name)
        if run.config_file.exists():
            raise RunError(
                f"the run {run.path} exists already: continue it with --resume, or give another name"
            )
        with writing(f"the run folder {run.path}"):
            run.path.mkdir(parents=True, exist_ok=True)
            run.samples.mkdir(exist_ok=True)
            run.states.folder.mkdir(exist_ok=True)
        return run

    @classmethod
    def open(cls, output: str, name: str) -> RunFolder:
        """Open the folder of a run that is there."""
        check_name(name)
        run = cls(Path(output).expanduser() / name)
        if not run.config_file.is_file():
            raise RunError(f"there is no run {run.path} to resume")
        return run

    def write_config(self, config: TrainingConfig, facts: Mapping[str, Any]) -> None:
        """Keep every value, the versions of everything, and what identifies the checkpoint."""
        content = {"config": asdict(config), "versions": versions(), **facts}
        with writing(str(self.config_file)):
            write_text(self.config_file, json.dumps(content, indent=2) + "\n")

    def read_config(self) -> tuple[TrainingConfig, dict[str, Any]]:
        """Read the config back, with the facts beside it."""
        try:
            content = json.loads(self.config_file.read_text(encoding="utf-8"))
            return from_mapping(content["config"]), content
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{self.config_file} cannot be read: {error}") from error


def resumed_config(stored: TrainingConfig, given: Mapping[str, Any]) -> TrainingConfig:
    """Take the stored config, with those of the given settings that may change."""
    for key, value in given.items():
        if key not in CHANGEABLE and value != getattr(stored, key):
            raise FieldError(
                key,
                f"a resumed run keeps its settings, but {key} is {value!r} and was {getattr(stored, key)!r}; "
                f"only {', '.join(CHANGEABLE)} may change",
            )
    in_rounds = find_method(stored.method).in_rounds and stored.rounds > 1
    if in_rounds and given.get("updates", stored.updates) != stored.updates:
        raise FieldError(
            "updates",
            f"the rounds of a {stored.method} run lie at shares of its updates, so they cannot change on resume",
        )
    return from_mapping(asdict(stored) | {key: given[key] for key in given if key in CHANGEABLE})


def versions() -> dict[str, str]:
    """Return the versions of everything that takes part."""
    found = {"imagereward": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
