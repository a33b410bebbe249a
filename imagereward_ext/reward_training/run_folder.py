"""A reward training's folder: what it was asked to do, how far it is, what it has measured.

`run.json` identifies the run, `states/` holds everything needed to go on, `events.jsonl` a line per update and
measurement, `skipped.txt` the images left out; a file named `stop` ends the run after the update at work.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from imagereward_ext.reward_training.recipes import RewardTrainingError
from imagereward_ext.storage import write_text
from imagereward_ext.training.event_log import EventLog
from imagereward_ext.training.record import StopFile
from imagereward_ext.training.states import DamagedStateError, SavedState, States, whole
from imagereward_ext.weights.pickles import read_all


@dataclass(frozen=True)
class Measurement:
    """What the held-out pairs said after a number of updates."""

    step: int
    validation_loss: float
    validation_accuracy: float
    training_loss: float | None = None
    """The mean since the measurement before; None when nothing was learned yet."""


class RewardRunFolder:
    """Reads and writes the files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.identity_file = path / "run.json"
        self.events_file = path / "events.jsonl"
        self.stop = StopFile(path / "stop")
        self.states = States(path / "states")

    def claim(self, identity: Mapping[str, Any]) -> None:
        """Start here, or make sure that what lies here is the same run."""
        self.stop.forget()
        found = self._read_identity()
        if found is None:
            self.path.mkdir(parents=True, exist_ok=True)
            write_text(self.identity_file, json.dumps(identity, indent=2) + "\n")
            return
        wanted = json.loads(json.dumps(identity))
        for key in sorted({*wanted, *found}):
            if wanted.get(key) != found.get(key):
                raise RewardTrainingError(
                    f"{self.path} holds another run: its {key} is {found.get(key)!r}, now it is {wanted.get(key)!r}. "
                    "Choose another folder, or delete this one to start over."
                )

    def write_skipped(self, lines: list[str]) -> Path:
        """List the images that were left out."""
        path = self.path / "skipped.txt"
        write_text(path, "".join(f"{line}\n" for line in lines))
        return path

    def finish(self) -> None:
        """Remove what only serves to go on; the record of the run stays."""
        shutil.rmtree(self.states.folder, ignore_errors=True)

    def adopt_earlier_layout(self, names: Sequence[str]) -> None:
        """Bring what version 0.1 kept into the places of now.

        That was `state.pt` with the weights by name, `best-<step>.pt`, and `log.jsonl` with a line per measurement.
        """
        newest, measured = self.path / "state.pt", self.path / "log.jsonl"
        if newest.is_file():
            content = _load(newest)
            progress = {key: content[key] for key in ("losses", "best", "latest")}
            best = int(content["best"]["step"])
            states = [
                SavedState(
                    int(content["step"]),
                    _in_order(content["weights"], names),
                    content["optimizer"],
                    content["scaler"] or {},
                    progress,
                )
            ]
            if best != content["step"]:
                weights = _in_order(_load(self.path / f"best-{best}.pt"), names)
                states.append(SavedState(best, weights, None, {}, progress))
            for state in states:
                if not self.states.path(state.step).exists():
                    self.states.write(state)
        if measured.is_file():
            log = EventLog(self.events_file)
            for line in measured.read_text(encoding="utf-8").splitlines():
                log.tell("check", **json.loads(line))
        for file in (measured, newest, *self.path.glob("best-*.pt")):
            file.unlink(missing_ok=True)

    def _read_identity(self) -> dict[str, Any] | None:
        if not self.identity_file.is_file():
            return None
        try:
            identity: dict[str, Any] = json.loads(self.identity_file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RewardTrainingError(
                f"{self.identity_file} is no valid JSON: {error}. Delete {self.path} to start over."
            ) from error
        return identity


def _load(path: Path) -> dict[str, Any]:
    try:
        with whole(path):
            return dict(read_all(path))
    except DamagedStateError as error:
        raise RewardTrainingError(f"{error}. Delete {path.parent} to start over.") from error


def _in_order(weights: Mapping[str, torch.Tensor], names: Sequence[str]) -> list[torch.Tensor]:
    return [weights[name] for name in names]
