"""An engine that trains nothing but speaks the run folder's protocol, for tests of what is around it.

It takes the place of the engine inside a real training process, so that locks, signals and pipes are real.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

from imagereward_ext.errors import ImageRewardError
from imagereward_ext.jobs import child
from imagereward_ext.training.record import State
from imagereward_ext.training.stopping import StopRequest


def engine(order):
    time.sleep(order.config.get("loading", 0))
    folder = order.folder
    if order.config.get("fails"):
        raise ImageRewardError("the checkpoint model.safetensors does not exist")
    if not order.resume:
        (folder / "states").mkdir()
        (folder / "config.json").write_text(json.dumps({"config": dict(order.config)}))
    order.record.write(State.TRAINING)
    step = max((int(path.name[5:]) for path in (folder / "states").glob("step-*")), default=0)
    with StopRequest(order.record.stop) as stop:
        while step < order.config["updates"] and not stop:
            time.sleep(order.config.get("seconds", 0.05))
            while held(order, step) and not stop:
                time.sleep(0.02)
            if stop:
                break
            if step == order.config.get("stuck_after") and not order.resume:
                (folder / "stuck").touch()
                time.sleep(600)  # as a driver that does not come back: signals are noted, and nothing ends
            step += 1
            event(folder, kind="update", step=step, reward=step / 10, seconds=0.05, memory=0.5)
            (folder / "states" / f"step-{step:06d}").mkdir(exist_ok=True)
    if order.config.get("signal_late"):
        os.kill(os.getpid(), signal.SIGTERM)
    ending = "asked" if stop else "finished"
    lora = folder / f"{order.name}-{step:06d}.safetensors"
    lora.write_bytes(b"lora")
    event(folder, kind="end", step=step, ending=ending, reason="done", lora=lora.name)
    order.record.end(State.STOPPED if stop else State.FINISHED, f"after {step}", lora.name)
    atexit.register(time.sleep, order.config.get("ending", 0))
    return SimpleNamespace(ending=ending, reason=f"after {step}", step=step, lora=lora, lora_step=step)


def held(order, step):
    """Whether to wait here for the test: then no machine is too busy for it to look in time."""
    at = step == order.config.get("hold_after") and not order.resume
    return at and not (order.folder / "go").exists()


def event(folder: Path, **values) -> None:
    with (folder / "events.jsonl").open("a") as file:
        file.write(json.dumps(values) + "\n")
    child.report(values)


def compare(order):
    time.sleep(order.config.get("comparing", 0))
    (order.folder / "compared").touch()
    order.record.end_comparison()
    return 0


child._engine = engine
child._compare = compare
