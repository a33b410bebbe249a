"""What the tab's buttons and the routes do: each is a method here, and both only call it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from imagereward_ext.errors import ImageRewardError, UsageError
from imagereward_ext.evaluation.statistics import ENOUGH_PROMPTS
from imagereward_ext.jobs.order import Order
from imagereward_ext.jobs.planning import Planner
from imagereward_ext.jobs.runs import Run
from imagereward_ext.jobs.trainer import Trainer
from imagereward_ext.webui.privacy import Privacy
from imagereward_ext.webui.refl_tab import desktop, form
from imagereward_ext.webui.refl_tab.choices import Choices
from imagereward_ext.webui.refl_tab.handover import Handover
from imagereward_ext.webui.refl_tab.packages import TrainingPackages
from imagereward_ext.webui.refl_tab.planning import make_plan, training_device
from imagereward_ext.webui.refl_tab.request import TrainingRequest, check_run_name, parse
from imagereward_ext.webui.refl_tab.views import Views
from imagereward_ext.webui.service import Service, service
from imagereward_ext.webui.service import error_message as whole_message

PROMPTS, HELD_OUT = "prompts.json", "held-out.json"
"""The files of a run's folder with the prompts it is trained on, and those it never sees."""


class TrainingService:
    """The trainings of this WebUI: names go in, plain values come out."""

    def __init__(self, service: Service, locks: Path | None = None) -> None:
        self._service = service
        self._host = service.host
        self._planner = Planner()
        folder = self._host.data_folder().absolute() / "imagereward"  # trainings work in another folder
        self.privacy = Privacy(service)
        self.packages = TrainingPackages(folder / "training-packages", self.privacy.shown)
        self.choices = Choices(service)
        self.handover = Handover(service)
        self.trainer = Trainer(folder / "runs", self.handover.make_room, self.handover.give_back, locks)
        self.handover.watch(self.trainer.queue)
        self.views = Views(self.trainer, self.packages, self.privacy)

    def check(self, given: Mapping[str, Any]) -> None:
        """Refuse what a run could not be started with, as far as that is told at once."""
        check_run_name(parse(given, self.choices))

    def plan(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Say what a run would take."""
        self.packages.require()
        request = parse(given, self.choices)
        scorers = self._service.folder().absolute()
        return make_plan(
            request, self._config(request), self._planner, self.device(), self.packages.path(), scorers
        )

    def start(self, given: Mapping[str, Any]) -> Run:
        """Start a run, or put it into the queue."""
        from imagereward_ext.refl.config import from_mapping
        from imagereward_ext.refl.session import check_inputs

        self.packages.require()
        request = parse(given, self.choices)
        check_run_name(request)
        order = self._order(request)
        check_inputs(from_mapping(order.config))  # what is wrong is said while the checkpoint is still loaded
        files = {PROMPTS: _spelled(request.prompts), HELD_OUT: _spelled(request.held)}
        return self.trainer.start(order, {name: text for name, text in files.items() if text})

    def stop(self, name: str, now: bool = False) -> Run:
        """Let a run save and end."""
        return self.trainer.stop(name, now)

    def resume(self, name: str) -> Run:
        """Continue a run."""
        self.packages.require()
        return self.trainer.resume(name, self.packages.path())

    def compare(self, name: str, given: Mapping[str, Any]) -> Run:
        """Compare again, with the prompts of the form; with those not trained on, where there are enough."""
        values = form.completed(given)
        prompts, trained = self.choices.prompts(values), self.views.trained_on(name) or set()
        fresh = [prompt for prompt in prompts if prompt not in trained]
        chosen = fresh if len(fresh) >= ENOUGH_PROMPTS else prompts
        count = values["compare"] or form.OWN["compare"].default
        return self.trainer.compare(name, chosen, count, values["compare_guidance"])

    def delete(self, name: str) -> None:
        """Remove a run."""
        self.trainer.delete(name)

    def open_folder(self, name: str) -> None:
        """Show a run's folder in the file manager of this machine."""
        if not self.privacy.may_open_folders():
            raise UsageError(
                "folders open only where the WebUI is for this machine alone: without --listen and --share"
            )
        desktop.show(self.trainer.runs.path(name))

    def device(self) -> str:
        """Return the device that a training here takes."""
        return training_device(self._host)

    def _config(self, request: TrainingRequest) -> dict[str, Any]:
        """Return the engine's settings, with files of the known folders for names."""
        return request.engine_values() | {
            "prompts": str(self.trainer.runs.folder / request.name / PROMPTS),
            "output": str(self.trainer.runs.folder),
            "lora_dir": str(self._host.lora_folder().absolute()),
            "cpu": self.device() == "cpu",
        }

    def _order(self, request: TrainingRequest) -> Order:
        values = request.values
        order = Order(
            self._config(request),
            compare=values["compare"],
            compare_guidance=values["compare_guidance"],
            device=self.device(),
            survive=values["survive"],
            generate=values["generate"],
            restore=values["restore"],
            scorers=str(self._service.folder().absolute()),
            download=not self._host.flag("imagereward_no_download", False),
            packages=self.packages.path(),
        )
        return replace(order, compare_prompts=str(order.folder / HELD_OUT)) if request.held else order


def _spelled(prompts: tuple[str, ...]) -> str:
    return json.dumps(prompts, ensure_ascii=False, indent=0) if prompts else ""


@lru_cache(maxsize=1)
def training_service() -> TrainingService:
    """Return the process-wide trainings; "Reload UI" does not touch them."""
    return TrainingService(service())


def error_message(error: Exception) -> str:
    """Say an error to the person at the tab, without folders where others may read it."""
    text = whole_message(error)
    return training_service().privacy.shown(text) if isinstance(error, ImageRewardError) else text
