"""A training's folder: what it was asked to do, how far it is, what it has measured.

`run.json` identifies the run, `state.pt` is everything needed to go on (written as a whole or not at all),
`best-<step>.pt` the best weights so far, `log.jsonl` one line per measurement, `skipped.txt` the images left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imagereward_ext.reward_training.recipes import RewardTrainingError
from imagereward_ext.storage import replacing, write_text


@dataclass(frozen=True)
class Measurement:
    """What the held-out pairs said after a number of updates."""

    step: int
    validation_loss: float
    validation_accuracy: float
    training_loss: float | None = None
    """The mean since the measurement before; None when nothing was learned yet."""


class RunFolder:
    """Reads and writes the files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def claim(self, identity: Mapping[str, Any]) -> None:
        """Start here, or make sure that what lies here is the same run."""
        found = self._read_identity()
        if found is None:
            self.path.mkdir(parents=True, exist_ok=True)
            write_text(self._file("run.json"), json.dumps(identity, indent=2, ensure_ascii=False) + "\n")
            return
        wanted = json.loads(json.dumps(identity))
        for key in sorted({*wanted, *found}):
            if wanted.get(key) != found.get(key):
                raise RewardTrainingError(
                    f"{self.path} holds another run: its {key} is {found.get(key)!r}, now it is {wanted.get(key)!r}. "
                    "Choose another folder, or delete this one to start over."
                )

    def read_state(self) -> dict[str, Any] | None:
        """Return what was saved last, None at the beginning."""
        path = self._file("state.pt")
        if not path.is_file():
            return None
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return state

    def write_state(self, state: Mapping[str, Any], best_step: int) -> None:
        """Save atomically; best weights that no state refers to any more are removed."""
        _save(self._file("state.pt"), dict(state))
        for other in self.path.glob("best-*.pt"):
            if other != self._best(best_step):
                other.unlink(missing_ok=True)

    def read_best(self, step: int) -> dict[str, Tensor]:
        """Return the weights that were best."""
        weights: dict[str, Tensor] = torch.load(self._best(step), map_location="cpu", weights_only=True)
        return weights

    def write_best(self, step: int, weights: Mapping[str, Tensor]) -> None:
        """Keep the best weights."""
        _save(self._best(step), dict(weights))

    def log(self, measurement: Measurement) -> None:
        """Append a line; what an earlier, killed attempt wrote from here on is dropped."""
        path = self._file("log.jsonl")
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        earlier = [line for line in lines if json.loads(line)["step"] < measurement.step]
        write_text(path, "\n".join([*earlier, json.dumps(asdict(measurement))]) + "\n")

    def measurements(self) -> list[Measurement]:
        """Return everything that was measured."""
        path = self._file("log.jsonl")
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return [Measurement(**json.loads(line)) for line in lines]

    def write_skipped(self, lines: list[str]) -> Path:
        """List the images that were left out."""
        path = self._file("skipped.txt")
        write_text(path, "".join(f"{line}\n" for line in lines))
        return path

    def finish(self) -> None:
        """Remove what only serves to go on; the record of the run stays."""
        for path in (self._file("state.pt"), *self.path.glob("best-*.pt")):
            path.unlink(missing_ok=True)

    def _read_identity(self) -> dict[str, Any] | None:
        path = self._file("run.json")
        if not path.is_file():
            return None
        try:
            identity: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RewardTrainingError(
                f"{path} is no valid JSON: {error}. Delete {self.path} to start over."
            ) from error
        return identity

    def _file(self, name: str) -> Path:
        return self.path / name

    def _best(self, step: int) -> Path:
        return self._file(f"best-{step}.pt")


def _save(path: Path, content: dict[str, Any]) -> None:
    with replacing(path) as part:
        torch.save(content, part)
