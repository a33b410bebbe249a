"""What somebody at the tab, or a client, asks to be trained: parsed once, with no effect on anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from imagereward_ext.errors import ImageRewardError
from imagereward_ext.hosts import Checkpoint
from imagereward_ext.settings import FieldError
from imagereward_ext.webui.refl_tab import form, prompt_sources
from imagereward_ext.webui.refl_tab.choices import Choices

_PROMPT_FIELDS = {
    prompt_sources.TYPED: "prompt_text",
    prompt_sources.FILE: "prompt_file",
    prompt_sources.THEME: "theme",
    prompt_sources.OUTPUTS: "prompt_source",
}


@dataclass(frozen=True)
class TrainingRequest:
    """A training that could be started as it stands."""

    values: Mapping[str, Any]
    """Every field of the form, complete and checked."""
    checkpoint: Checkpoint
    prompts: tuple[str, ...]
    held: tuple[str, ...]
    """The prompts that are kept from the training, for the comparison afterwards."""

    @property
    def name(self) -> str:
        """The run's name."""
        return str(self.values["name"])

    def engine_values(self) -> dict[str, Any]:
        """Return the engine's settings, as far as they do not depend on where this WebUI keeps things."""
        vae = self.checkpoint.vae
        return form.engine_values(self.values) | {
            "checkpoint": str(self.checkpoint.weights.absolute()),
            "vae": str(vae.absolute()) if vae else "",
        }


def parse(given: Mapping[str, Any], choices: Choices) -> TrainingRequest:
    """Check what is asked for and look up what its names stand for; the name of the run is looked at apart."""
    values = form.completed({**given, "name": str(given.get("name", "")).strip()})
    checkpoint = _checkpoint(values["checkpoint"], choices)
    _check_scorers(values["scorers"], values["judge"], choices.scorers())
    form.check_together(values)
    try:
        prompts, held = choices.prompts(values), list[str]()
    except ImageRewardError as error:
        raise FieldError(_PROMPT_FIELDS[values["prompt_source"]], str(error)) from error
    if values["compare"]:
        prompts, held = prompt_sources.hold_out(prompts)
    return TrainingRequest(MappingProxyType(values), checkpoint, tuple(prompts), tuple(held))


def check_run_name(request: TrainingRequest) -> None:
    """Refuse what cannot be the name of a run."""
    from imagereward_ext.refl.config import check_name

    try:
        check_name(request.name)
    except ImageRewardError as error:
        raise FieldError("name", str(error)) from error


def _checkpoint(name: str, choices: Choices) -> Checkpoint:
    checkpoints = choices.checkpoints()
    if name in ("", form.LOADED):
        name = next(iter(checkpoints), "")
    if name not in checkpoints:
        there = ", ".join(checkpoints) or "none"
        raise FieldError("checkpoint", f"there is no checkpoint {name!r}; there are {there}")
    if not checkpoints[name].weights.exists():
        raise FieldError("checkpoint", f"the checkpoint {name} is not there any more: choose another one")
    return checkpoints[name]


def _check_scorers(scorers: str, judge: str, known: list[str]) -> None:
    from imagereward_ext.refl.rewards import parse_mix

    if not scorers.strip(" ,"):
        raise FieldError("scorers", "choose at least one scorer")
    try:
        rewards = [name for name, _ in parse_mix(scorers)]
    except FieldError as error:
        raise form.in_labels(error) from error
    for field, names in (("scorers", rewards), ("judge", [judge] * bool(judge))):
        for name in names:
            if name not in known:
                raise FieldError(field, f"there is no scorer {name!r}; there are {', '.join(known)}")
    if judge in rewards:
        text = f"{judge} is also the reward: the judge must be a scorer that is not trained on"
        raise FieldError("judge", text)
