"""What a run leaves behind: ``runs/<name>/`` with config, events, samples, states and LoRA files.

A state is a folder that appears under its name only when it is complete, so a run that is killed at any moment
resumes from the newest one.
"""

from __future__ import annotations

import errno
import json
import math
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from imagereward_ext import __version__
from imagereward_ext.errors import ImageRewardError
from imagereward_ext.refl.config import TrainingConfig, check_name, from_mapping
from imagereward_ext.settings import FieldError
from imagereward_ext.storage import replace, write_text
from imagereward_ext.training.journal import Journal

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


class RunError(ImageRewardError):
    """A run folder that cannot be made, opened or written."""


class RunFolder:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / "config.json"
        self.events_file = path / "events.jsonl"
        self.events = Journal(self.events_file)
        self.stop_file = path / "stop"
        self.samples = path / "samples"
        self.states = path / "states"
        self.pool_file = path / "pool.safetensors"

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
            run.states.mkdir(exist_ok=True)
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
            write_text(self.config_file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def read_config(self) -> tuple[TrainingConfig, dict[str, Any]]:
        """Read the config back, with the facts beside it."""
        try:
            content = json.loads(self.config_file.read_text(encoding="utf-8"))
            return from_mapping(content["config"]), content
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{self.config_file} cannot be read: {error}") from error

    def write_event(self, event: Mapping[str, Any]) -> None:
        """Append one line."""
        with writing(str(self.events_file)):
            self.events.append(_finite(event))

    def read_events(self) -> Iterator[dict[str, Any]]:
        """Yield the events; a last line that a crash left unfinished is skipped."""
        yield from self.events.read()

    def forget_events_after(self, step: int) -> None:
        """Drop what an interrupted run wrote after the state it resumes from."""
        kept = [event for event in self.read_events() if event.get("step", 0) <= step]
        if self.events_file.exists():
            write_text(self.events_file, "".join(json.dumps(event) + "\n" for event in kept))

    # ------------------------------------------------------------------------------------------------ states

    def state(self, step: int) -> Path:
        """Return where the state after so many updates is."""
        return self.states / f"step-{step:06d}"

    def steps(self) -> list[int]:
        """Return the steps of the complete states, oldest first."""
        return sorted(
            int(path.name.removeprefix("step-")) for path in self.states.glob("step-*") if path.is_dir()
        )

    @contextmanager
    def new_state(self, step: int) -> Iterator[Path]:
        """Yield a folder to write a state into; it gets its name when the block ends well.

        The state of a step is written once: a run that comes to the same step again made the same.
        """
        part = self.states / f".step-{step:06d}.part"
        with writing(f"the state of step {step} (earlier states are kept)"):
            try:
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir(parents=True)
                yield part
                for file in part.iterdir():
                    _flush(file)
                replace(part, self.state(step))
            finally:
                shutil.rmtree(part, ignore_errors=True)

    def prune(self, keep: set[int]) -> None:
        """Remove the states that are not wanted any more."""
        for step in self.steps():
            if step not in keep:
                shutil.rmtree(self.state(step), ignore_errors=True)


def resumed_config(stored: TrainingConfig, given: Mapping[str, Any]) -> TrainingConfig:
    """Take the stored config, with those of the given settings that may change."""
    for key, value in given.items():
        if key not in CHANGEABLE and value != getattr(stored, key):
            raise FieldError(
                key,
                f"a resumed run keeps its settings, but {key} is {value!r} and was {getattr(stored, key)!r}; "
                f"only {', '.join(CHANGEABLE)} may change",
            )
    if stored.method == "raft" and given.get("updates", stored.updates) != stored.updates:
        raise FieldError(
            "updates",
            "the rounds of a raft run lie at shares of its updates, so they cannot change on resume",
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


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Turn the system's errors while writing into one clear line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(f"no space is left to write {what}: free some and resume the run") from error
        if isinstance(error, PermissionError):
            raise RunError(f"{what} cannot be written: no permission") from error
        raise RunError(f"{what} cannot be written: {error.strerror or error}") from error


def _finite(event: Mapping[str, Any]) -> dict[str, Any]:
    """Spell an event as browsers read it too: they know no infinity, which fp16 gradients may reach."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in event.items()
    }


def _flush(file: Path) -> None:
    with file.open("rb+") as stream:
        os.fsync(stream.fileno())
