"""What the tab's buttons and the routes do: each is a method here, and both only call it."""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from imagereward_ext.errors import ImageRewardError, UsageError
from imagereward_ext.evaluation.statistics import ENOUGH_PROMPTS
from imagereward_ext.hosts import Checkpoint
from imagereward_ext.jobs import packages, runs
from imagereward_ext.jobs.child import COMPARISON
from imagereward_ext.jobs.order import JobError, Order
from imagereward_ext.jobs.planning import Planner
from imagereward_ext.jobs.runs import Run
from imagereward_ext.jobs.trainer import Trainer
from imagereward_ext.settings import FieldError
from imagereward_ext.webui.refl_tab import desktop, form, handover, health, prompt_sources, verdict
from imagereward_ext.webui.service import Service, service
from imagereward_ext.wording import counted

_RUN_PICTURE = re.compile(r"samples/step-\d{6}/\d{2}\.png|comparison/comparison-[a-z-]+\.png")
_PROMPT_FIELDS = {
    prompt_sources.TYPED: "prompt_text", prompt_sources.FILE: "prompt_file", prompt_sources.THEME: "theme",
    prompt_sources.OUTPUTS: "prompt_source",
}  # fmt: skip
_THIS_MACHINE = ("", "127.0.0.1", "localhost", "::1")
_FOLDERS = r"(?:[^\s\\/:'\"]+[\\/])"
_ABSOLUTE = re.compile(rf"(?:[A-Za-z]:)?[\\/]{_FOLDERS}+")
_REST = rf"(?:[\\/]{_FOLDERS}*|(?!\w))"


class Training:
    """Trainings of this WebUI. Every method takes names and gives plain values."""

    def __init__(self, service: Service, locks: Path | None = None) -> None:
        self._service = service
        self._host = service.host
        self._planner = Planner()
        self._installing = threading.Lock()
        self._install_log: list[str] = []
        self.token = secrets.token_urlsafe(24)
        """What the tab's JavaScript shows in place of credentials: it stands in the page alone."""
        self.trainer = Trainer(
            self.folder() / "runs",
            self._make_room,
            lambda order: handover.make_good(order, service),
            locks,
        )
        self._lent = self.trainer.busy()
        """The order that has the memory. One that still waits for its turn lets the job at work begin further images."""
        service.card_is_lent = lambda: self._keeps_out(self.trainer.busy())

    # ------------------------------------------------------------------------------------------------ places

    def folder(self) -> Path:
        """Return where this extension keeps what it makes."""
        return self._host.data_folder().absolute() / "imagereward"  # trainings work in another folder

    def names_only(self) -> bool:
        """Whether people from elsewhere may reach this WebUI: then paths are neither taken nor shown."""
        opened = any(self._host.flag(flag) for flag in ("listen", "share", "ngrok"))
        return opened or str(self._host.flag("server_name") or "") not in _THIS_MACHINE

    def may_open_folders(self) -> bool:
        """Whether the person at the page sits at this machine, as far as its owner has said."""
        return not (self.names_only() or self._host.flag("hide_ui_dir_config"))

    def shown(self, text: str) -> str:
        """Take folders out of a text that people from elsewhere may read."""
        if not self.names_only():
            return text
        # Those of this WebUI by name: where one has a space in it, nothing else tells where it begins or ends.
        host = self._host
        places = (
            host.data_folder(),
            host.models_folder(),
            host.lora_folder(),
            self._service.folder(),
            Path.home(),
        )
        for place in sorted({place.absolute() for place in places}, key=lambda one: -len(str(one))):
            if place != Path(place.anchor):
                text = re.sub(re.escape(str(place)) + _REST, "", text)
        return _ABSOLUTE.sub("", text)

    def checkpoints(self) -> dict[str, Checkpoint]:
        """Return the host's checkpoints by name, the loaded one first."""
        return self._host.checkpoints()

    def prompt_files(self) -> dict[str, Path]:
        """Return the prompt files that may be chosen, by name."""
        folder = self._service.folder() / "prompts"
        files = sorted(folder.glob("*")) if folder.is_dir() else []
        return {path.name: path for path in files if path.suffix.lower() in (".txt", ".json")}

    def _kept_prompts(self) -> Path:
        return self.folder() / "prompts"

    def packages_folder(self) -> Path:
        """Return where training packages go that the WebUI lacks."""
        return self.folder() / "training-packages"

    # ------------------------------------------------------------------------------------------------ before

    def prompts(self, values: Mapping[str, Any]) -> list[str]:
        """Return the prompts that the form asks for."""
        source = values["prompt_source"]
        if source == prompt_sources.TYPED:
            return prompt_sources.from_text(values["prompt_text"])
        if source == prompt_sources.THEME:
            return prompt_sources.from_theme(values["theme"])
        if source == prompt_sources.OUTPUTS:
            return prompt_sources.from_images(self._output_folders())
        files, name = self.prompt_files(), values["prompt_file"]
        if name not in files:
            raise UsageError(
                f"there is no prompt file {name!r}; there are {', '.join(files) or 'none in models/ImageReward/prompts'}"
            )
        return prompt_sources.from_file(files[name], name)

    def config(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Turn the form into the engine's settings: names become files of the known folders."""
        return self._prepared(form.completed(given))[0]

    def check(self, given: Mapping[str, Any]) -> None:
        """Refuse what a run could not be started with, as far as that is told at once."""
        from imagereward_ext.refl.config import check_name

        self.config(given)
        try:
            check_name(str(given.get("name", "")).strip())
        except ImageRewardError as error:
            raise FieldError("name", str(error)) from error

    def scorers(self) -> list[str]:
        """Return the scorers that may be chosen."""
        return list(self._service.names())

    def _prepared(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return the engine's settings, and the prompts that are kept from it for the comparison."""
        checkpoints = self.checkpoints()
        name = values["checkpoint"]
        if name in ("", form.LOADED):
            name = next(iter(checkpoints), "")
        if name not in checkpoints:
            raise FieldError(
                "checkpoint", f"there is no checkpoint {name!r}; there are {', '.join(checkpoints) or 'none'}"
            )
        self._check_scorers(values)
        chosen = checkpoints[name]
        if not chosen.weights.exists():
            raise FieldError("checkpoint", f"the checkpoint {name} is not there any more: choose another one")
        form.check_together(values)
        try:
            prompts, held = self.prompts(values), list[str]()
        except ImageRewardError as error:
            raise FieldError(_PROMPT_FIELDS[values["prompt_source"]], str(error)) from error
        if values["compare"]:
            prompts, held = prompt_sources.hold_out(prompts)
        config = form.engine_values(values) | {
            "checkpoint": str(chosen.weights.absolute()),
            "vae": str(chosen.vae.absolute()) if chosen.vae else "",
            "prompts": str(prompt_sources.keep(prompts, self._kept_prompts())),
            "output": str(self.trainer.folder),
            "lora_dir": str(self._host.lora_folder().absolute()),
            "cpu": self.device() == "cpu",
        }
        return config, held

    def plan(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Say what a run would take, before anything is unloaded or loaded."""
        self._check_packages()
        fields = form.completed(given)
        config, held = self._prepared(fields)
        free = handover.free_for_training(fields["generate"])
        values = self._planner.plan(
            config | {"name": "plan", "memory": self._memory(config, free)},
            self._private_packages(),
            self.device(),
            str(self._service.folder().absolute()),
        )
        return values | {
            "text": f"{Path(config['checkpoint']).stem}: {_plan_text(values)}",
            "warning": _plan_warning(values, free),
            "notes": [*values["notes"], *_held_note(held)],
        }

    def start(self, given: Mapping[str, Any]) -> Run:
        """Start a run, or put it into the queue."""
        from imagereward_ext.refl.config import check_name, from_mapping
        from imagereward_ext.refl.session import read_inputs

        self._check_packages()
        name = str(given.get("name", "")).strip()
        check_name(name)
        values = form.completed({**given, "name": name})
        config, held = self._prepared(values)
        read_inputs(from_mapping(config))  # what is wrong is said while the checkpoint is still loaded
        order = Order(
            config,
            compare=values["compare"],
            compare_guidance=values["compare_guidance"],
            compare_prompts=str(prompt_sources.keep(held, self._kept_prompts())) if held else "",
            device=self.device(),
            survive=values["survive"],
            generate=values["generate"],
            restore=values["restore"],
            scorers=str(self._service.folder().absolute()),
            download=not self._host.flag("imagereward_no_download", False),
            packages=self._private_packages(),
        )
        return self.trainer.start(order)

    # ------------------------------------------------------------------------------------------------ during

    def stop(self, name: str, now: bool = False) -> Run:
        """Let a run save and end."""
        return self.trainer.stop(name, now)

    def resume(self, name: str) -> Run:
        """Continue a run."""
        self._check_packages()
        return self.trainer.resume(name, packages=self._private_packages())

    def compare(self, name: str, given: Mapping[str, Any]) -> Run:
        """Compare again, with the prompts of the form; with those not trained on, where there are enough."""
        values = form.completed(given)
        prompts, trained = self.prompts(values), self._trained_on(name) or set()
        fresh = [prompt for prompt in prompts if prompt not in trained]
        kept = prompt_sources.keep(fresh if len(fresh) >= ENOUGH_PROMPTS else prompts, self._kept_prompts())
        count = values["compare"] or form.OWN["compare"].default
        return self.trainer.compare(name, str(kept), count, values["compare_guidance"])

    def delete(self, name: str) -> None:
        """Remove a run."""
        self.trainer.delete(name)

    def open_folder(self, name: str) -> None:
        """Show a run's folder in the file manager of this machine."""
        if not self.may_open_folders():
            raise UsageError(
                "folders open only where the WebUI is for this machine alone: without --listen and --share"
            )
        desktop.show(self.trainer.path(name))

    def runs(self) -> list[dict[str, Any]]:
        """List the runs, newest first."""
        return [self._plain(run) for run in self.trainer.runs()]

    def status(self, name: str = "", starts: int = -1, position: int = 0) -> dict[str, Any]:
        """Tell all that a page needs: the runs, and of one of them (the one at work) what is new."""
        found = self.runs()
        at_work = [run["name"] for run in found if run["state"] in runs.ALIVE]
        chosen = name or (at_work or [run["name"] for run in found] or [""])[0]
        answer: dict[str, Any] = {"runs": found, "install": self._install_log[-8:], "run": None}
        answer["folders"] = self.may_open_folders()
        answer["missing"] = self.missing_packages()
        busy = self.trainer.busy()
        answer["away"] = busy is not None and not busy.generate  # the checkpoint
        run = next((run for run in found if run["name"] == chosen), None)
        if run is None:
            return answer
        folder = self.trainer.path(chosen)
        fresh = starts != run["starts"]
        news = runs.read_events(folder, 0 if fresh else position)
        return answer | {
            "run": run,
            "fresh": fresh or news.position < position,
            "events": [event for event in news.events if event.get("kind") in ("update", "check")],
            "position": news.position,
            "log": self.shown(runs.log_tail(folder)),
            "health": health.ended_by_guard(run["lora"])
            if run["state"] == runs.GUARD
            else health.sentence(runs.read_checks(folder)),
            "samples": _samples(folder),
        }

    def report(self, name: str) -> dict[str, Any]:
        """Tell the before/after report of a run."""
        folder = self.trainer.path(name) / COMPARISON
        try:
            content = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise JobError(f"the run {name!r} has no before/after report yet") from None
        weight = next(iter(content["recommended"].values()), None)
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
        pictures = [f"{COMPARISON}/{path.name}" for path in sorted(folder.glob("comparison-*.png"))]
        return {
            "recommended": None if few else weight,
            "advice": verdict.sentence(prompts, self._trained_on(name), weight, rows),
            "rows": rows,
            "pictures": pictures,
            "prompts": len(prompts),
        }

    def _trained_on(self, name: str) -> set[str] | None:
        """Return the prompts of a run's training, None where they are not there any more."""
        from imagereward_ext.diffusion.prompts import read_prompts

        try:
            prompts = read_prompts(runs.training_prompts(self.trainer.path(name)))
        except ImageRewardError:
            return None
        return {prompt.replace("\n", " ") for prompt in prompts}  # as the comparison writes them

    def picture(self, name: str, file: str) -> Path:
        """Return a sample or a contact sheet of a run."""
        path = self.trainer.path(name) / file
        if not _RUN_PICTURE.fullmatch(file) or not path.is_file():
            raise JobError(f"the run {name!r} has no picture {file!r}")
        return path

    def refuse_if_training(self, job: Any) -> None:
        """Refuse a generation while a training has the memory."""
        order = self.trainer.busy_for_long()
        if order is not None and self._keeps_out(order):
            handover.refuse(job, order)

    # ------------------------------------------------------------------------------------------------ packages

    def missing_packages(self) -> list[str]:
        """List what training needs and is nowhere."""
        return packages.missing(self.packages_folder())

    def install_packages(self) -> str:
        """Install what is missing into the private folder; its log is part of the status."""
        if not self._installing.acquire(blocking=False):
            return "The training packages are being installed already."
        try:
            if not self.missing_packages():
                return "Everything that training needs is there."
            self._install_log.clear()
            self.packages_folder().parent.mkdir(parents=True, exist_ok=True)
            found = packages.install(
                self.packages_folder(), lambda line: self._install_log.append(self.shown(line))
            )
            return (
                "Installed " + ", ".join(f"{name} {version}" for name, version in sorted(found.items())) + "."
            )
        finally:
            self._installing.release()

    # ------------------------------------------------------------------------------------------------ how

    def device(self) -> str:
        """Return the device of the host; one that training does not know counts as the CPU."""
        device = self._host.device()
        return "cuda:0" if device == "cuda" else device if device.split(":")[0] in ("cuda", "mps") else "cpu"

    def memory_line(self) -> str:
        """Say what the graphics card has, and which preset that means."""
        free = handover.free_for_training()
        if free is None or not self.device().startswith("cuda"):
            return "No graphics card: the training runs on the CPU, which takes long."
        preset = _preset(free[0])
        fits = f"the {preset} GB preset" if preset else "none of the presets: at least 6 GB are needed"
        return (
            f"Graphics card: {free[0]:.1f} of {free[1]:.1f} GB are free for a training, which means {fits}."
        )

    def _memory(self, config: Mapping[str, Any], free: tuple[float, float] | None) -> str:
        """Plan with the memory there will be, not with what is free while the WebUI still holds its model."""
        if config["memory"] != "auto" or config["cpu"] or free is None:
            return str(config["memory"])
        return _preset(free[0]) or "auto"

    def _check_packages(self) -> None:
        absent = self.missing_packages()
        if absent:
            raise UsageError(
                f"training needs {' and '.join(absent)}, which this WebUI does not have: press "
                "'Install what training needs' (nothing of the WebUI itself changes)"
            )

    def _private_packages(self) -> str:
        folder = self.packages_folder()
        return str(folder) if folder.is_dir() else ""

    def _keeps_out(self, order: Order | None) -> bool:
        return order is not None and order is self._lent and not order.generate

    def _make_room(self, order: Order) -> None:
        def begin() -> None:
            self._lent = order

        handover.make_room(order, self._service, begin)

    def _check_scorers(self, values: Mapping[str, Any]) -> None:
        from imagereward_ext.refl.rewards import parse_mix

        if not values["scorers"].strip(" ,"):
            raise FieldError("scorers", "choose at least one scorer")
        try:
            rewards = [name for name, _ in parse_mix(values["scorers"])]
        except FieldError as error:
            raise form.in_labels(error) from error
        known, judge = self.scorers(), values["judge"]
        for field, names in (("scorers", rewards), ("judge", [judge] * bool(judge))):
            for name in names:
                if name not in known:
                    text = f"there is no scorer {name!r}; there are {', '.join(known)}"
                    raise FieldError(field, text)
        if judge in rewards:
            text = f"{judge} is also the reward: the judge must be a scorer that is not trained on"
            raise FieldError("judge", text)

    def _output_folders(self) -> list[Path]:
        keys = ("outdir_samples", "outdir_txt2img_samples", "outdir_img2img_samples")
        chosen = [str(self._host.option(key, "") or "") for key in keys]
        return list(dict.fromkeys(Path(folder).absolute() for folder in chosen if folder))

    def _plain(self, run: Run) -> dict[str, Any]:
        return {**asdict(run), "reason": self.shown(run.reason), "pid": None, "total_left": run.seconds_left}


def _preset(free: float) -> str:
    """Name the largest preset that fits; a card sold with 8 GB shows a little less."""
    from imagereward_ext.refl.memory import RESERVE

    return next((str(size) for size in (24, 12, 8, 6) if size <= free + RESERVE), "")


def _plan_text(plan: Mapping[str, Any]) -> str:
    fit = plan["fit"]
    hours = plan["seconds"] * plan["updates"] / 3600
    time = f"{hours:.1f} hours" if hours >= 1 else counted(max(1, round(hours * 60)), "minute")
    return (
        f"{plan['trained']:,} trained parameters, {plan['updates']:,} updates of {plan['images']} images at "
        f"{plan['width']}x{plan['height']}, {fit['micro_batch']} at a time; about {time} ({plan['seconds']:.1f} s per "
        f"update) and {plan['memory']:.1f} GB (estimates)"
    )


def _plan_warning(plan: Mapping[str, Any], free: tuple[float, float] | None) -> str:
    if plan["free"] is None or free is None or plan["memory"] <= free[0]:
        return ""
    return f"This will hardly fit: {free[0]:.1f} GB are free for it. Choose a smaller preset or resolution."


def _measured(interval: dict[str, Any] | None, few: bool) -> dict[str, Any] | None:
    """Leave the bounds out that come from too few prompts."""
    return interval | {"low": None, "high": None} if interval and few else interval


def _held_note(held: list[str]) -> list[str]:
    if not held:
        return []
    return [f"held out             {len(held):,} more prompts, for the comparison afterwards"]


def _samples(folder: Path) -> list[dict[str, Any]]:
    """List sample pictures with their first versions, newest first."""
    steps = sorted(path.name for path in (folder / "samples").glob("step-*") if path.is_dir())
    if not steps:
        return []
    first = steps[0]
    return [
        {"step": int(step.removeprefix("step-")), "before": f"samples/{first}/{picture.name}",
         "after": f"samples/{step}/{picture.name}"}
        for step in reversed(steps[1:] or steps)
        for picture in sorted((folder / "samples" / step).glob("*.png"))
    ][:12]  # fmt: skip


@lru_cache(maxsize=1)
def training() -> Training:
    """Return the process-wide trainings; "Reload UI" does not touch them."""
    return Training(service())


def sentence(error: Exception) -> str:
    """Say an error to the person at the tab, without folders where others may read it."""
    from imagereward_ext.webui.service import plain

    text = plain(error)
    return training().shown(text) if isinstance(error, ImageRewardError) else text
