"""What a run would take, from a process of its own: only such a one sees the training packages."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from typing import Any

from imagereward_ext.errors import ImageRewardError
from imagereward_ext.jobs import process
from imagereward_ext.jobs.order import JobError

PATIENCE = 120.0  # seconds; a cold start of torch and diffusers on a slow disk takes a while


class SupersededError(JobError):
    """A newer plan was asked for meanwhile."""


class Planner:
    """Makes one plan at a time: the newest question ends the one before. The last answer is kept."""

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._known: tuple[str, dict[str, Any]] | None = None

    def plan(
        self,
        config: Mapping[str, Any],
        prompts: Sequence[str],
        packages: str,
        device: str,
        scorers: str = "",
    ) -> dict[str, Any]:
        """Return the engine's plan as plain values; `scorers` is where scorers are looked for first."""
        question = json.dumps(
            {"config": dict(config), "prompts": list(prompts), "scorers": scorers}, sort_keys=True
        )
        with self._changing:
            if self._known is not None and self._known[0] == question:
                return self._known[1]
            if self._process is not None:
                self._process.kill()
            child = self._process = process.start_planner(packages, device)
        try:
            out, err = child.communicate(question, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()
            raise JobError(f"no plan after {PATIENCE:.0f} seconds: the machine is busy") from None
        with self._changing:
            if self._process is not child:
                raise SupersededError("a newer plan was asked for")
            self._process = None
        answer = _read(out, err)
        with self._changing:
            self._known = (question, answer)
        return answer


def _read(out: str, err: str) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
    except (ValueError, IndexError):
        last = (err.strip().splitlines() or ["no message"])[-1]
        raise JobError(f"the plan cannot be made: {last}") from None
    if "error" in answer:
        raise JobError(str(answer["error"]))
    return answer


def main() -> int:
    """Answer one question; run in a process of its own."""
    question = json.loads(sys.stdin.read())
    with redirect_stdout(sys.stderr):  # what libraries print is no answer
        answer = _answer(question["config"], question["prompts"], question["scorers"])
    print(json.dumps(answer))
    return 0


def _answer(config: dict[str, Any], prompts: list[str], scorers: str) -> dict[str, Any]:
    from imagereward_ext.refl.config import from_mapping
    from imagereward_ext.refl.plan import make_plan

    try:
        plan = make_plan(from_mapping(config), scorers or None, prompts)
    except ImageRewardError as error:
        return {"error": str(error)}
    return asdict(plan)
