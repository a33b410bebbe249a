"""What the page and the routes are told of the runs: their state, what is new, what came of them."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from imagereward_ext.errors import ImageRewardError
from imagereward_ext.evaluation.statistics import ENOUGH_PROMPTS
from imagereward_ext.jobs import runs
from imagereward_ext.jobs.order import JobError
from imagereward_ext.jobs.trainer import Trainer
from imagereward_ext.webui.privacy import Privacy
from imagereward_ext.webui.refl_tab import health, verdict
from imagereward_ext.webui.refl_tab.packages import TrainingPackages

_RUN_PICTURE = re.compile(r"samples/step-\d{6}/\d{2}\.png|comparison/comparison-[a-z-]+\.png")
_MOST_SAMPLES = 12


class Views:
    """Plain values, ready for JSON, without folders where others may read them."""

    def __init__(self, trainer: Trainer, packages: TrainingPackages, privacy: Privacy) -> None:
        self._trainer = trainer
        self._packages = packages
        self._privacy = privacy
        self._checks = runs.Checks()

    def runs(self) -> list[dict[str, Any]]:
        """List the runs, newest first."""
        return [
            asdict(run)
            | {"reason": self._privacy.shown(run.reason), "pid": None, "total_left": run.seconds_left}
            for run in self._trainer.runs.list()
        ]

    def status(self, name: str = "", starts: int = -1, position: int = 0) -> dict[str, Any]:
        """Tell all that a page needs: the runs, and of one of them (the one at work) what is new."""
        listed = self.runs()
        alive = [run for run in listed if run["state"] in runs.ALIVE]
        chosen = name or next((run["name"] for run in (*alive, *listed)), "")
        run = next((run for run in listed if run["name"] == chosen), None)
        busy = self._trainer.queue.busy()
        answer = {
            "runs": listed,
            "run": run,
            "install": self._packages.log[-8:],
            "missing": self._packages.missing(),
            "folders": self._privacy.may_open_folders(),
            "away": busy is not None and not busy.generate,  # the checkpoint
        }
        return answer if run is None else answer | self._news(run, starts, position)

    def _news(self, run: dict[str, Any], starts: int, position: int) -> dict[str, Any]:
        folder = self._trainer.runs.path(run["name"])
        fresh = starts != run["starts"]
        news = runs.read_events(folder, 0 if fresh else position)
        guarded = run["state"] == runs.STOPPED_BY_GUARD
        return {
            "fresh": fresh or news.position < position,
            "events": [event for event in news.objects if event.get("kind") in ("update", "check")],
            "position": news.position,
            "log": self._privacy.shown(runs.log_tail(folder)),
            "health": health.ended_by_guard(run["lora"])
            if guarded
            else health.sentence(self._checks.read(folder, run["starts"])),
            "samples": _samples(folder),
        }

    def report(self, name: str) -> dict[str, Any]:
        """Tell the before/after report of a run."""
        folder = self._trainer.runs.path(name) / runs.COMPARISON
        try:
            content = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise JobError(f"the run {name!r} has no before/after report yet") from None
        weight = next(iter(content["recommended"].values()), None)
        found = next(iter(content.get("findings", {}).values()), None)
        guidance = content["settings"]["sampling"]["guidance"] if found else None
        prompts = set(content["prompts"])
        few = len(prompts) < ENOUGH_PROMPTS
        rows = [
            {
                "label": label,
                "scorer": scorer,
                "mean": candidate["mean"][scorer],
                "difference": _measured(candidate["difference"].get(scorer), few),
                "win_rate": _measured(candidate["win_rate"].get(scorer), few),
            }
            for label, candidate in content["candidates"].items()
            for scorer in candidate["mean"]
        ]
        return {
            "recommended": None if few else weight,
            "advice": verdict.sentence(prompts, self.trained_on(name), weight, rows, found, guidance),
            "rows": rows,
            "pictures": [
                f"{runs.COMPARISON}/{path.name}" for path in sorted(folder.glob("comparison-*.png"))
            ],
            "prompts": len(prompts),
        }

    def trained_on(self, name: str) -> set[str] | None:
        """Return the prompts of a run's training, None where they are not there any more."""
        from imagereward_ext.diffusion.prompts import read_prompts

        try:
            prompts = read_prompts(runs.training_prompts(self._trainer.runs.path(name)))
        except ImageRewardError:
            return None
        return {prompt.replace("\n", " ") for prompt in prompts}  # as the comparison takes them

    def picture(self, name: str, file: str) -> Path:
        """Return a sample or a contact sheet of a run."""
        path = self._trainer.runs.path(name) / file
        if not _RUN_PICTURE.fullmatch(file) or not path.is_file():
            raise JobError(f"the run {name!r} has no picture {file!r}")
        return path


def _measured(interval: dict[str, Any] | None, few: bool) -> dict[str, Any] | None:
    """Leave the bounds out that come from too few prompts."""
    return interval | {"low": None, "high": None} if interval and few else interval


def _samples(folder: Path) -> list[dict[str, Any]]:
    """List sample pictures with their first versions, newest first."""
    steps = sorted(path.name for path in (folder / "samples").glob("step-*") if path.is_dir())
    pictures = [
        {
            "step": int(step.removeprefix("step-")),
            "before": f"samples/{steps[0]}/{picture.name}",
            "after": f"samples/{step}/{picture.name}",
        }
        for step in reversed(steps[1:] or steps)
        for picture in sorted((folder / "samples" / step).glob("*.png"))
    ]
    return pictures[:_MOST_SAMPLES]
