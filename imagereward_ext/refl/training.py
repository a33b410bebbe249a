"""One run of ReFL from its settings to its LoRA: what the engine asks of it, its checks, and its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imagereward_ext.diffusion.checkpoint import file_digest
from imagereward_ext.diffusion.requirements import require_training_packages
from imagereward_ext.refl import export
from imagereward_ext.refl.algorithm import Algorithm
from imagereward_ext.refl.checks import Check, Guard, measure
from imagereward_ext.refl.config import TrainingConfig, check_name
from imagereward_ext.refl.fit import running_out_is_told
from imagereward_ext.refl.pool_maker import PoolMaker
from imagereward_ext.refl.rewards import LoadScorer
from imagereward_ext.refl.run_folder import RunFolder, resumed_config
from imagereward_ext.refl.samples import PREVIEW, draw, draw_by_base, write_samples
from imagereward_ext.refl.session import Session, kept_facts, load_session, model_facts, read_inputs
from imagereward_ext.training.engine import Ending, Engine, Figures, Optimise, Task, TrainingError
from imagereward_ext.training.event_log import EventLog, Listener
from imagereward_ext.training.processes import Processes
from imagereward_ext.training.record import RunRecord, State
from imagereward_ext.training.states import RunError, writing
from imagereward_ext.training.stopping import StopRequest


@dataclass(frozen=True)
class TrainedLora:
    """How a run ended, and the LoRA it left."""

    folder: Path
    step: int
    ending: str
    """"finished", "asked" or "guard"."""
    reason: str
    lora: Path | None
    lora_step: int


@running_out_is_told()
def train(
    config: TrainingConfig, load: LoadScorer, listener: Listener, *, begun: bool = False
) -> TrainedLora:
    """Start a new run; one that a queue has started is `begun` in its record already."""
    require_training_packages()
    prompts = read_inputs(config)
    processes = Processes(config.cpu)
    _refuse_existing(config, processes)
    session = load_session(config, prompts, processes, load, _words_to(listener))
    folder = RunFolder(Path(config.output).expanduser() / config.name)
    if processes.main:
        folder = RunFolder.create(config)
        facts = {
            "checkpoint_sha256": file_digest(Path(config.checkpoint).expanduser()),
            "prompts_sha256": _digest(prompts),
            "model": model_facts(session.parts.config),
            "fit": kept_facts(session.fit),
            "calibrations": session.calibrations,
            "processes": processes.count,
        }
        if not begun:
            RunRecord(folder.path).begin()
        folder.write_config(config, facts)
    processes.wait()
    return LoraTraining(session, folder, processes, listener).run()


@running_out_is_told()
def resume(
    output: str,
    name: str,
    given: dict[str, Any],
    load: LoadScorer,
    listener: Listener,
    *,
    begun: bool = False,
) -> TrainedLora:
    """Continue a run from its newest state, exactly."""
    require_training_packages()
    folder = RunFolder.open(output, name)
    stored, facts = folder.read_config()
    config = resumed_config(stored, given)
    processes = Processes(config.cpu)
    if processes.main and not begun:
        RunRecord(folder.path).begin()
    prompts = read_inputs(config)
    if file_digest(Path(config.checkpoint).expanduser()) != facts.get("checkpoint_sha256"):
        raise RunError(
            f"{config.checkpoint} is not the checkpoint this run began with: bring the same file back"
        )
    if facts.get("prompts_sha256") not in (None, _digest(prompts)):  # None: begun before it was kept
        raise RunError(
            f"{config.prompts} does not hold the prompts this run began with: bring the same ones back"
        )
    session = load_session(config, prompts, processes, load, _words_to(listener), facts)
    training = LoraTraining(session, folder, processes, listener)
    training.engine.restore()
    return training.run()


class LoraTraining(Task):
    """A run as the engine sees it: Algorithm 1, checked against the base's images."""

    def __init__(self, session: Session, folder: RunFolder, processes: Processes, listener: Listener) -> None:
        self.session, self.config = session, session.config
        self.folder, self.record, self.processes = folder, RunRecord(folder.path), processes
        self.updates, self.save_every = self.config.updates, self.config.save_every
        self.micro_batch = session.fit.micro_batch
        self.log = EventLog(folder.events_file, listener, processes.main)
        self.engine = Engine(self, session.learner, processes, folder.states, self.log)
        self.algorithm = Algorithm(session)
        self.guard = Guard(self.config.patience)
        self._pools = PoolMaker(session, folder, processes, self.log)
        self._base_images: Tensor | None = None

    def run(self) -> TrainedLora:
        """Train to the end, and write the LoRA."""
        if self.processes.main:
            self.record.write(State.TRAINING)
        with StopRequest(self.record.stop) as stop:  # whoever asks late lets the LoRA be written, too
            return self._finish(self.engine.run(stop))

    def learning_rate(self, step: int) -> float:
        """Return the same for all."""
        return self.config.learning_rate

    def update(self, step: int, optimise: Optimise) -> Figures:
        """Run the paper's loop once."""
        self.algorithm.pool = self._pools.pool(step, self.micro_batch)
        figures = self.algorithm.update(step, optimise)
        variance = figures.pop("reward_squared", 0.0) - figures.get("reward", 0.0) ** 2
        return {**figures, "reward_spread": max(0.0, variance) ** 0.5}

    def after_update(self, step: int, figures: Figures) -> None:
        """Write a LoRA on the way, where they were asked for."""
        every = self.config.lora_every
        if every and step % every == 0 and step != self.updates and self.processes.main:
            self._export(step)

    def progress(self) -> dict[str, Any]:
        """Return the checks so far: the guard rails follow from them."""
        return {"checks": [check.to_dict() for check in self.guard.checks]}

    def restore(self, progress: Mapping[str, Any]) -> None:
        """Take the checks back."""
        self.guard.restore([Check.from_dict(values) for values in progress["checks"]])

    def best_step(self) -> int | None:
        """Return the step of the best check."""
        best = self.guard.best
        return best.step if best else None

    def checks_after(self, step: int) -> bool:
        """Check every so many updates."""
        return step % self.config.check_every == 0

    @torch.no_grad()
    def check(self, step: int) -> str | None:
        """Look at the fixed prompts; returns why to stop, if the guard rails are on and say so."""
        session, main = self.session, self.processes.main
        share = self.processes.share(len(session.checked))
        images = torch.stack(self.processes.collect(draw(session, share, self.micro_batch)))
        check = self._measured(step, images) if main else None
        if self.processes.any(check is not None and not check.finite):
            raise TrainingError(_no_number(step, self.divergence_advice))
        reason = None
        if check is not None:
            reason = self.guard.add(check)
            self.log.tell("check", step, **check.summary())
            write_samples(self.folder.samples_of(step), images[: self.config.shown_images], session, step)
        stop = self.processes.any(bool(reason) and self.config.guard)
        return (reason or "another process says so") if stop else None

    def _measured(self, step: int, images: Tensor) -> Check:
        if self._base_images is None:  # after a resume they are made again
            self._base_images = images if step == 0 else draw_by_base(self.session, self.micro_batch)
        session, device = self.session, self.processes.device
        base = self._base_images.to(device)
        return measure(
            step, images.to(device), session.checked, session.reward, session.judge, base, self.micro_batch
        )

    def _finish(self, ending: Ending) -> TrainedLora:
        """Write the LoRA of the chosen step; that of step 0 would do nothing, and is none."""
        step = (self.best_step() or 0) if ending.kind == "guard" else ending.step
        path = None
        if self.processes.main:
            if step not in (0, ending.step):
                self.session.learner.load_weights(self.folder.states.read(step).parameters)
            path = self._export(step) if step else None
            name = path.name if path else ""
            self.log.tell("end", ending.step, ending=ending.kind, reason=ending.reason, lora=name)
            state = State.FINISHED if ending.kind == "finished" else State.STOPPED
            self.record.end(state, ending.reason, name, by_guard=ending.kind == "guard")
        self.processes.wait()
        return TrainedLora(self.folder.path, ending.step, ending.kind, ending.reason, path, step)

    def _export(self, step: int) -> Path:
        """Write the LoRA as it is now, named after the step it belongs to."""
        samples = self.folder.samples_of(step)
        if not (samples / PREVIEW).exists():  # stopped between two checks
            write_samples(samples, torch.stack(draw(self.session, [0], self.micro_batch)), self.session, step)
        with writing("the LoRA"):
            return export.write(self.session, self.folder, step, self.guard.checks)


def _words_to(listener: Listener) -> Any:
    return lambda text: listener({"kind": "note", "text": text})


def _digest(prompts: list[str]) -> str:
    return hashlib.sha256(json.dumps(prompts).encode()).hexdigest()


def _refuse_existing(config: TrainingConfig, processes: Processes) -> None:
    """Refuse a bad name or an existing run before minutes of loading."""
    check_name(config.name)
    if processes.main and (Path(config.output).expanduser() / config.name / "config.json").exists():
        RunFolder.create(config)


def _no_number(step: int, advice: str) -> str:
    if step == 0:
        return (
            "the images of the untrained model have no finite score: choose precision fp32, or another VAE "
            "(some give no image in fp16)"
        )
    return f"the images after update {step} have no finite score; the state before it is kept. {advice}"
