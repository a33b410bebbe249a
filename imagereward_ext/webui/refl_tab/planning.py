"""What a training would take, before anything is unloaded or loaded: the engine's plan in a person's words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imagereward_ext.hosts import Host
from imagereward_ext.jobs.planning import Planner
from imagereward_ext.refl.config import MEMORY_SIZES
from imagereward_ext.webui.refl_tab import handover
from imagereward_ext.webui.refl_tab.request import TrainingRequest
from imagereward_ext.wording import counted


def training_device(host: Host) -> str:
    """Return the device of the host; one that training does not know counts as the CPU."""
    device = host.device()
    return "cuda:0" if device == "cuda" else device if device.split(":")[0] in ("cuda", "mps") else "cpu"


def make_plan(
    request: TrainingRequest,
    config: Mapping[str, Any],
    planner: Planner,
    device: str,
    packages: str,
    scorers: Path,
) -> dict[str, Any]:
    """Plan with the memory there will be, not with what is free while the WebUI still holds its model."""
    free = handover.free_for_training(request.values["generate"])
    preset = str(config["memory"])
    if preset == "auto" and not config["cpu"] and free is not None:
        preset = _preset(free[0]) or preset
    asked = {**config, "name": "plan", "memory": preset}
    plan = planner.plan(asked, request.prompts, packages, device, str(scorers))
    held = len(request.held)
    note = f"held out             {held:,} more prompts, for the comparison afterwards"
    return plan | {
        "text": f"{request.checkpoint.weights.stem}: {_text(plan)}",
        "warning": _warning(plan, free),
        "notes": [*plan["notes"], *([note] if held else [])],
    }


def memory_line(device: str) -> str:
    """Say what the graphics card has, and which preset that means."""
    free = handover.free_for_training()
    if free is None or not device.startswith("cuda"):
        return "No graphics card: the training runs on the CPU, which takes long."
    preset = _preset(free[0])
    fits = (
        f"the {preset} GB preset"
        if preset
        else f"none of the presets: at least {MEMORY_SIZES[0]} GB are needed"
    )
    return f"Graphics card: {free[0]:.1f} of {free[1]:.1f} GB are free for a training, which means {fits}."


def _preset(free: float) -> str:
    """Name the largest preset that fits; a card sold with 8 GB shows a little less."""
    from imagereward_ext.refl.fit import RESERVE

    return next((str(size) for size in reversed(MEMORY_SIZES) if size <= free + RESERVE), "")


def _text(plan: Mapping[str, Any]) -> str:
    fit = plan["fit"]
    hours = plan["seconds"] * plan["updates"] / 3600
    time = f"{hours:.1f} hours" if hours >= 1 else counted(max(1, round(hours * 60)), "minute")
    return (
        f"{plan['trained']:,} trained parameters, {plan['updates']:,} updates of {plan['images']} images at "
        f"{plan['width']}x{plan['height']}, {fit['micro_batch']} at a time; about {time} ({plan['seconds']:.1f} s per "
        f"update) and {plan['memory']:.1f} GB (estimates)"
    )


def _warning(plan: Mapping[str, Any], free: tuple[float, float] | None) -> str:
    if plan["free"] is None or free is None or plan["memory"] <= free[0]:
        return ""
    return f"This will hardly fit: {free[0]:.1f} GB are free for it. Choose a smaller preset or resolution."
