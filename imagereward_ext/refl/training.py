"""The run itself: update, check, save; stop when asked, when done, or when the guard rails say so."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imagereward_ext.diffusion.checkpoint import file_digest
from imagereward_ext.diffusion.lora import folded, switched_off
from imagereward_ext.diffusion.requirements import require_training_packages
from imagereward_ext.diffusion.sampling import generate, generate_latents
from imagereward_ext.errors import ImageRewardError
from imagereward_ext.memory import is_out_of_memory, return_memory
from imagereward_ext.refl import export
from imagereward_ext.refl.algorithm import ImageBatch, PromptBatch, Terms, denoising, reward_feedback
from imagereward_ext.refl.checks import Check, Guard, measure
from imagereward_ext.refl.config import TrainingConfig
from imagereward_ext.refl.learner import DivergedError
from imagereward_ext.refl.losses import phi
from imagereward_ext.refl.memory import peak_memory, running_out_is_told
from imagereward_ext.refl.pool import Pool, captioned_images, encoded_images, read_pool, write_pool
from imagereward_ext.refl.processes import Processes
from imagereward_ext.refl.randomness import derived_seed, shuffled_index, stream
from imagereward_ext.refl.rewards import LoadScorer
from imagereward_ext.refl.run_folder import RunError, RunFolder, resumed_config, writing
from imagereward_ext.refl.session import (
    Session,
    kept_facts,
    load_session,
    model_facts,
    pool_prompts,
    read_inputs,
)
from imagereward_ext.refl.stopping import StopRequest
from imagereward_ext.training.record import RunRecord, State

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    folder: Path
    step: int
    ending: str
    """"finished", "asked" or "guard"."""
    reason: str
    lora: Path | None
    lora_step: int


class TrainingError(ImageRewardError):
    """A run that cannot go on."""


@running_out_is_told()
def train(config: TrainingConfig, load: LoadScorer, report: Report) -> Outcome:
    """Start a new run."""
    require_training_packages()
    prompts = read_inputs(config)
    processes = Processes(config.cpu)
    _check_writable_name(config, processes)
    session = load_session(
        config, prompts, processes, load, lambda text: report({"kind": "note", "text": text})
    )
    folder = RunFolder(Path(config.output).expanduser() / config.name)
    if processes.main:
        folder = RunFolder.create(config)
        checkpoint = Path(config.checkpoint).expanduser()
        facts = {"checkpoint_sha256": file_digest(checkpoint), "prompts_sha256": _digest(prompts),
                 "model": model_facts(session.parts.config), "fit": kept_facts(session.fit),
                 "calibrations": session.calibrations,
                 "processes": processes.count}  # fmt: skip
        RunRecord(folder.path).begin_unless_begun()
        folder.write_config(config, facts)
    processes.wait()
    return Training(session, folder, processes, report).run()


@running_out_is_told()
def resume(output: str, name: str, given: dict[str, Any], load: LoadScorer, report: Report) -> Outcome:
    """Continue a run from its newest state, exactly."""
    require_training_packages()
    folder = RunFolder.open(output, name)
    stored, facts = folder.read_config()
    config = resumed_config(stored, given)
    processes = Processes(config.cpu)
    if processes.main:
        RunRecord(folder.path).begin_unless_begun()
    prompts = read_inputs(config)
    if file_digest(Path(config.checkpoint).expanduser()) != facts.get("checkpoint_sha256"):
        raise RunError(
            f"{config.checkpoint} is not the checkpoint this run began with: bring the same file back"
        )
    if facts.get("prompts_sha256") not in (None, _digest(prompts)):  # None: begun before it was kept
        raise RunError(
            f"{config.prompts} does not hold the prompts this run began with: bring the same ones back"
        )
    session = load_session(
        config,
        prompts,
        processes,
        load,
        lambda text: report({"kind": "note", "text": text}),
        facts,
    )
    training = Training(session, folder, processes, report)
    training.restore()
    return training.run()


def _digest(prompts: list[str]) -> str:
    return hashlib.sha256(json.dumps(prompts).encode()).hexdigest()


def _check_writable_name(config: TrainingConfig, processes: Processes) -> None:
    """Refuse a bad name or an existing run before minutes of loading."""
    from imagereward_ext.refl.config import check_name

    check_name(config.name)
    if processes.main and (Path(config.output).expanduser() / config.name / "config.json").exists():
        RunFolder.create(config)


class Training:
    """One run in progress."""

    def __init__(self, session: Session, folder: RunFolder, processes: Processes, report: Report) -> None:
        self.session = session
        self.config = session.config
        self.folder = folder
        self.record = RunRecord(folder.path)
        self.processes = processes
        self.report = report
        self.step = 0
        self.micro_batch = session.fit.micro_batch
        self.guard = Guard(self.config.patience)
        self.phi = phi(self.config.phi, self.config.reward_cap)
        self._pool: Pool | None = None
        self._pool_round = -1
        self._base_images: Tensor | None = None

    # ------------------------------------------------------------------------------------------------ the run

    def run(self) -> Outcome:
        """Train until done, asked to stop, or stopped by the guard rails."""
        with StopRequest(self.folder.stop_file) as stop:  # whoever asks late lets the LoRA be written, too
            return self._run(stop)

    def _run(self, stop: StopRequest) -> Outcome:
        if self.processes.main:
            self.record.write(State.TRAINING)
        reason = None
        if self.step == 0 and not self.guard.checks:
            reason = self._check()
        while self.step < self.config.updates and reason is None:
            if self.processes.any(bool(stop)):
                self._save()
                return self._finish("asked", f"asked to stop after update {self.step}", self.step)
            try:
                self._update()
            except DivergedError as error:
                self._save()
                raise TrainingError(
                    f"stopped at update {self.step + 1}: {error}; the state before it is kept. "
                    "Lower the learning rate"
                ) from error
            reason = self._after_update()
        if reason is not None:
            best = self.guard.best
            self._note(f"stopped by the guard rails: {reason}")
            return self._finish("guard", reason, best.step if best else 0)
        return self._finish("finished", f"all {self.step} updates are done", self.step)

    def restore(self) -> None:
        """Continue from the newest state: weights, optimiser, checks, and the place in the prompts."""
        steps = self.folder.steps()
        if not steps:
            if self.processes.main:
                self.folder.forget_events_after(-1)
            return
        state = self.folder.state(steps[-1])
        self.session.learner.read(state)
        try:
            content = json.loads((state / "state.json").read_text(encoding="utf-8"))
            self.step = int(content["step"])
            self.guard.restore([Check.from_dict(values) for values in content["checks"]])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"the state {state} cannot be read: {error}") from error
        if self.processes.main:
            self.folder.forget_events_after(self.step)
        self.processes.wait()
        self._note(f"resumed after update {self.step}")

    def _after_update(self) -> str | None:
        """Check and save when it is time; returns why to stop."""
        last = self.step == self.config.updates
        reason = self._check() if last or self.step % self.config.check_every == 0 else None
        if last or self.step % self.config.save_every == 0:
            self._save()
        if (
            self.config.lora_every
            and self.step % self.config.lora_every == 0
            and not last
            and self.processes.main
        ):
            self._export()
        return reason

    def _finish(self, ending: str, reason: str, lora_step: int) -> Outcome:
        """Write the LoRA of the chosen step; that of step 0 would do nothing, and is none."""
        path = None
        if self.processes.main:
            if lora_step not in (0, self.step):
                self.session.learner.read_weights(self.folder.state(lora_step))
            path = self._export(lora_step) if lora_step else None
            self._event({
                "kind": "end", "step": self.step, "ending": ending, "reason": reason, "lora": path.name if path else "",
            })  # fmt: skip
            state = State.FINISHED if ending == "finished" else State.STOPPED
            self.record.end(state, reason, path.name if path else "", ending == "guard")
        self.processes.wait()
        return Outcome(self.folder.path, self.step, ending, reason, path, lora_step)

    # ---------------------------------------------------------------------------------------------- one update

    def _update(self) -> None:
        """Take one optimiser step."""
        started = time.perf_counter()
        self._refresh_pool()
        sums = self._accumulate_if_it_fits() or self._accumulate_with_half()
        means = self._average(sums)
        if not math.isfinite(means["loss"]):
            raise DivergedError("the loss is not finite")
        norm = self.session.learner.step(self.processes)
        self.step += 1
        spread = max(0.0, means.pop("reward_squared", 0.0) - means.get("reward", 0.0) ** 2) ** 0.5
        self._event({
            "kind": "update", "step": self.step, **means, "reward_spread": spread, "gradient": norm,
            "lr": self.config.learning_rate, "seconds": round(time.perf_counter() - started, 3),
            "memory": round(peak_memory(self.processes.device), 3),
        })  # fmt: skip

    def _accumulate_if_it_fits(self) -> dict[str, Tensor] | None:
        """Return nothing when memory runs out. The error ends here, and with it what its traceback kept alive."""
        try:
            return self._accumulate()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None

    def _accumulate_with_half(self) -> dict[str, Tensor]:
        """Try the update once more with half the images at a time. Nothing was exchanged or stepped yet."""
        sums = None
        if self.micro_batch > 1:
            self.micro_batch //= 2
            self._note(f"out of memory: trying again with {self.micro_batch} images at a time")
            self.session.learner.zero()
            return_memory()
            sums = self._accumulate_if_it_fits()
        if sums is None:
            raise TrainingError(
                f"out of memory with {self.micro_batch} images at a time: lower the resolution, turn gradient "
                "checkpointing on, or choose a smaller memory preset"
            )
        return sums

    def _accumulate(self) -> dict[str, Tensor]:
        """Add up the gradients of this process's samples; returns the sums of every term."""
        share = self.processes.share(self.config.batch)
        sums: dict[str, Tensor] = {}
        for start in range(share.start, share.stop, self.micro_batch):
            samples = range(start, min(start + self.micro_batch, share.stop))
            terms = self._terms(samples)
            self.session.learner.backward(terms.total.sum() / self.config.batch)
            for name, value in _logged(terms).items():
                sums[name] = sums.get(name, torch.zeros((), device=value.device)) + value
        return sums

    def _average(self, sums: dict[str, Tensor]) -> dict[str, float]:
        self.processes.sum(list(sums.values()))
        return {name: float(value) / self.config.batch for name, value in sums.items()}

    def _terms(self, samples: range) -> Terms:
        """Return the loss of some samples of this update, by the chosen method."""
        config, session = self.config, self.session
        if config.method == "refl":
            terms = reward_feedback(session.parts, session.reward, self.phi, self._prompts(samples), session.settings,
                                    config.reward_weight, config.kl_weight)  # fmt: skip
            if config.prior_weight:
                images, _ = self._images(samples)
                terms.add("prior", denoising(session.parts, images), config.prior_weight)
            return terms
        images, weights = self._images(samples)
        loss = denoising(session.parts, images)
        terms = Terms(torch.zeros_like(loss))
        terms.add("denoising", loss, weights)
        return terms

    def _prompts(self, samples: range) -> PromptBatch:
        config, encodings = self.config, self.session.encodings
        numbers = [
            shuffled_index(config.seed, self.step * config.batch + j, len(encodings.prompts)) for j in samples
        ]
        texts = [encodings.prompts[number] for number in numbers]
        return PromptBatch(
            prompts=texts,
            encode=lambda: encodings.with_negative(texts, config.guidance),
            streams=[stream(config.seed, "roll-out", self.step, j) for j in samples],
            stops=[self._stop(j) for j in samples],
        )

    def _stop(self, sample: int) -> int:
        """Draw t ~ U{T1..T2}."""
        source = stream(self.config.seed, "late-step", self.step, sample)
        return int(torch.randint(self.config.first_step, self.config.last_step + 1, (), generator=source))

    def _images(self, samples: range) -> tuple[ImageBatch, Tensor]:
        """Draw images of the pool, each with a timestep and noise."""
        pool, parts, device = self._chosen_pool(), self.session.parts, self.processes.device
        sources = [stream(self.config.seed, "pool", self.step, j) for j in samples]
        rows = [int(torch.randint(len(pool), (), generator=source)) for source in sources]
        t = [int(torch.randint(parts.config.noise.steps, (), generator=source)) for source in sources]
        noise = [torch.randn(pool.latents.shape[1:], generator=source) for source in sources]
        texts = [self.session.captions[int(pool.prompts[row])] for row in rows]
        batch = ImageBatch(
            clean=pool.latents[rows].to(device, torch.float32),
            noise=torch.stack(noise).to(device),
            t=torch.tensor(t, device=device),
            encode=lambda: (self.session.encodings(texts), None),
        )
        return batch, pool.weights(self.config.method)[rows].to(device)

    # ------------------------------------------------------------------------------------------------ the pool

    def _chosen_pool(self) -> Pool:
        assert self._pool is not None, "_refresh_pool makes it before the first update"
        return self._pool

    def _refresh_pool(self) -> None:
        """Make the images of this round, or read those an interrupted run made."""
        if not self.config.uses_prior:
            return
        rounds = self.config.rounds if self.config.method == "raft" else 1
        number = self.step * rounds // self.config.updates
        if number == self._pool_round:
            return
        file = self.folder.pool_file.with_name(f"pool-{number}.safetensors")
        if file.exists():
            pool = read_pool(file)
        else:
            self._note("making the images to denoise" if not self.config.images else "encoding the images")
            pool = self._user_images() if self.config.images else self._made_images(number)
            self.processes.wait()
            if self.processes.main:
                write_pool(pool, file)
        self._pool, self._pool_round = pool.chosen(self.config.method, self.config.keep_share), number

    def _user_images(self) -> Pool:
        paths = [path for path, _ in captioned_images(Path(self.config.images))]
        settings = self.session.settings
        latents = encoded_images(self.session.parts, paths, settings.width, settings.height)
        rewards = (
            self._rewards(latents, self.session.captions)
            if self.config.method != "refl"
            else torch.zeros(len(paths))
        )
        return Pool(latents, torch.arange(len(paths)), rewards)

    def _made_images(self, number: int) -> Pool:
        """Let the base (RAFT: the current model) make images, spread over the processes."""
        session = self.session
        texts = pool_prompts(self.config, session.captions)
        share = self.processes.share(len(texts))
        seeds = [derived_seed(self.config.seed, "pool-image", number, row) for row in share]

        def made() -> list[Tensor]:
            own = [texts[row] for row in share]
            cond, negative = session.encodings.with_negative(own, self.config.guidance)
            with folded(session.parts):
                made = generate_latents(
                    session.parts, cond, negative, session.settings, seeds, self.micro_batch
                )
                return [latents.cpu() for latents in made]

        with torch.no_grad():
            if self.config.method == "raft":
                own = made()
            else:
                with switched_off(session.parts):
                    own = made()
        latents = torch.stack(self.processes.collect(own))
        rewards = self._rewards(latents, texts) if self.config.method != "refl" else torch.zeros(len(texts))
        numbers = {text: index for index, text in enumerate(session.captions)}
        return Pool(latents, torch.tensor([numbers[text] for text in texts]), rewards)

    @torch.no_grad()
    def _rewards(self, latents: Tensor, texts: list[str]) -> Tensor:
        found = []
        for start in range(0, len(latents), self.micro_batch):
            rows = slice(start, start + self.micro_batch)
            pixels = self.session.parts.decode(latents[rows].to(self.processes.device))
            found.append(self.session.reward(pixels, texts[rows]).float().cpu())
        return torch.cat(found)

    # --------------------------------------------------------------------------------------- checks and records

    @torch.no_grad()
    def _check(self) -> str | None:
        """Look at the fixed prompts; returns why to stop, if the guard rails are on and say so."""
        session = self.session
        share = self.processes.share(len(session.checked))
        images = torch.stack(self.processes.collect(self._drawn(share)))
        check = reason = None
        if self.processes.main:
            if self._base_images is None:
                self._base_images = images if self.step == 0 else self._images_of_the_base()
            check = measure(
                self.step, images.to(self.processes.device), session.checked, session.reward, session.judge,
                self._base_images.to(self.processes.device), self.micro_batch,
            )  # fmt: skip
        if self.processes.any(check is not None and not check.finite):
            raise TrainingError(self._no_number())
        if check is not None:
            reason = self.guard.add(check)
            self._event({"kind": "check", "step": self.step, **check.summary()})
            export.write_samples(
                self._samples(self.step), images[: self.config.shown_images], session, self.step
            )
            self._save()
        stop = self.processes.any(bool(reason) and self.config.guard)
        return (reason or "another process says so") if stop else None

    def _no_number(self) -> str:
        if self.step == 0:
            return (
                "the images of the untrained model have no finite score: choose precision fp32, or another VAE "
                "(some give no image in fp16)"
            )
        return (
            f"the images after update {self.step} have no finite score; the state before it is kept. "
            "Lower the learning rate"
        )

    @torch.no_grad()
    def _drawn(self, rows: Iterable[int]) -> list[Tensor]:
        """Make images of the checked prompts, by the model as it is now."""
        session, rows = self.session, list(rows)
        cond, negative = session.encodings.with_negative(
            [session.checked[row] for row in rows], self.config.guidance
        )
        seeds = [self.config.seed + row for row in rows]
        with folded(session.parts):
            made = generate(session.parts, cond, negative, session.settings, seeds, self.micro_batch)
            return [pixels.float().cpu() for pixels in made]

    def _images_of_the_base(self) -> Tensor:
        """Make the base's images again after a resume (only the main process needs them)."""
        with switched_off(self.session.parts):
            return torch.stack(self._drawn(range(len(self.session.checked))))

    def _samples(self, step: int) -> Path:
        return self.folder.samples / f"step-{step:06d}"

    def _save(self) -> None:
        """Write a state to resume from; the newest and the best stay."""
        if not self.processes.main:
            return
        if not self.folder.state(self.step).exists():
            with self.folder.new_state(self.step) as place:
                self.session.learner.write(place)
                content = {"step": self.step, "checks": [check.to_dict() for check in self.guard.checks]}
                (place / "state.json").write_text(json.dumps(content), encoding="utf-8")
        best = self.guard.best
        self.folder.prune({self.step, best.step if best else self.step})

    def _export(self, step: int | None = None) -> Path:
        """Write the LoRA as it is now, named after the step it belongs to."""
        step = self.step if step is None else step
        if not (self._samples(step) / export.PREVIEW).exists():  # stopped between two checks
            export.write_samples(self._samples(step), torch.stack(self._drawn([0])), self.session, step)
        with writing("the LoRA"):
            return export.write(self.session, self.folder, step, self.guard.checks)

    def _note(self, text: str) -> None:
        self._event({"kind": "note", "step": self.step, "text": text})

    def _event(self, event: dict[str, Any]) -> None:
        """Log on disk and to whoever started the run; only the main process speaks."""
        if self.processes.main:
            self.folder.write_event(event)
            self.report(event)


def _logged(terms: Terms) -> dict[str, Tensor]:
    """Return the sums of a micro-batch."""
    values = {"loss": terms.total.detach().sum()}
    values |= {name: value.float().sum() for name, value in terms.parts.items()}
    if "reward" in terms.parts:
        values["reward_squared"] = terms.parts["reward"].float().pow(2).sum()
    return values
