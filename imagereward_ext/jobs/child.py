"""The training process: it locks its run and its device, runs the engine, and writes how it ended.

Its standard input is a pipe whose other end the WebUI holds and never writes to. When the WebUI ends, however it
ends, the pipe does too: that is portable, and cannot miss a parent that died early. A run that is to survive
the WebUI gets no pipe.
"""

from __future__ import annotations

import filecmp
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from imagereward_ext.errors import ImageRewardError
from imagereward_ext.jobs.order import Order, read_order
from imagereward_ext.memory import return_memory
from imagereward_ext.storage import write_text
from imagereward_ext.training.lock import Lock

OUTCOME = "outcome.json"
RUN_LOCK = "lock"
STOP = "stop"
"""The file in a run's folder that asks it to end: the engine looks for it after each update."""

COMPARISON = "comparison"
COMPARED_WEIGHTS = ("0.5", "0.8", "1")
SECONDS_AFTER_THE_WEBUI = 120.0
"""How long an orphan may take to finish its update and save before it ends without."""

_SECONDS_TO_ASK_AGAIN = 0.5


def main(folder: Path, device_lock: Path, follow: bool) -> int:
    """Carry out the order in a run's folder; return the exit code."""
    order = read_order(folder)
    if order is None:
        print(f"{folder} holds no order", flush=True)
        return 2
    _signals.came = False
    signal.signal(signal.SIGTERM, _on_signal)  # first: whoever sees who has the lock may send one
    run_lock = Lock(folder / RUN_LOCK)
    if not run_lock.take({"name": order.name}):
        print(f"The run {order.name} is already running.", flush=True)
        return 3
    if follow:
        _end_with_the_webui(folder / STOP)
    lock = Lock(device_lock)
    if not lock.take({"name": order.name}):
        ending, code = (
            _failed(f"another training uses this device ({order.device}): wait for it, or stop it"),
            4,
        )
    elif order.only_compare:
        return _compare(order)
    else:
        (folder / OUTCOME).unlink(missing_ok=True)
        ending, code = _train(order)
        if order.resume and ending.get("lora"):
            _replace_interim(order, ending["lora"])
    if not order.only_compare:  # how the training ended stays
        _write_outcome(folder, ending)
    print(ending["reason"], flush=True)
    if order.compare and ending["ending"] in ("finished", "guard") and ending["lora"]:
        _compare(order)
    return code


def _train(order: Order) -> tuple[dict[str, Any], int]:
    try:
        with _nothing_to_lose(order.folder / STOP):
            return _ended(_engine(order)), 0
    except _StoppedWhileLoadingError:
        return {"ending": "asked", "reason": "stopped before the first update"}, 0
    except ImageRewardError as error:
        return _failed(str(error)), 1
    except Exception as error:
        traceback.print_exc()
        text = str(error).splitlines()[0] if str(error) else "no message"
        return _failed(f"{type(error).__name__}: {text} (details in the log)"), 1


def _replace_interim(order: Order, lora: str) -> None:
    """Take from the LoRA folder what earlier stops of a resumed run put there, unless somebody has changed it."""
    from imagereward_ext.refl.run_folder import RunFolder

    folder, target = order.folder, Path(str(order.config.get("lora_dir") or order.folder)).expanduser()
    every = int(order.config.get("lora_every") or 0)
    for event in RunFolder(folder).read_events():
        name, step = str(event.get("lora") or ""), int(event.get("step") or 0)
        interim = event.get("ending") == "asked" and name not in ("", lora)
        if not interim or target == folder or (every and step % every == 0):  # ordered as one of several
            continue
        own = list(folder.glob(f"{Path(name).stem}.*"))
        if own and all(_same(path, target / path.name) for path in own):
            with suppress(OSError):
                for path in own:
                    (target / path.name).unlink()
                _say(f"{Path(lora).stem} took the place of {Path(name).stem} in the LoRA folder")


def _same(one: Path, other: Path) -> bool:
    with suppress(OSError):
        return filecmp.cmp(one, other, shallow=False)
    return False


def _engine(order: Order) -> Any:
    """Run the engine. It is imported here, when the locks are held: it takes seconds."""
    from imagereward_ext.refl.config import from_mapping
    from imagereward_ext.refl.training import resume, train
    from imagereward_ext.scorers import load_scorer

    def load(name: str) -> Any:
        return load_scorer(
            name,
            device="cpu" if order.config.get("cpu") else "auto",
            folder=Path(order.scorers) if order.scorers else None,
            download=order.download,
            report=_say,
        )

    if order.resume:
        # The engine takes anew only what it lets a resumed run change; it says so itself for the rest.
        given = {key: order.config[key] for key in ("output", "name", "cpu") if key in order.config}
        return resume(str(order.config["output"]), order.name, given, load, report)
    return train(from_mapping(order.config), load, report)


def _compare(order: Order) -> int:
    """Make images with and without the LoRA; whatever happens here, the training's own ending stands."""
    try:
        with _nothing_to_lose(order.folder / STOP):
            _say("comparing before and after")
            return_memory()  # the trained model has gone, and the comparison loads it as a WebUI would
            # By name: the command line stands above this room, and reads its own arguments.
            code = int(import_module("imagereward_ext.cli").main(["compare", *_comparison(order)]))
    except _StoppedWhileLoadingError:
        _say("the comparison was stopped")
        return 0
    except SystemExit as end:
        code = int(end.code or 0)
    _say("the comparison is done" if code == 0 else "the comparison failed; the lines above say why")
    return code


def _comparison(order: Order) -> list[str]:
    """Spell the comparison for the command line: the training's scorers and the judge, three LoRA weights."""
    from imagereward_ext.refl.rewards import parse_mix
    from imagereward_ext.refl.run_folder import RunFolder

    outcome = json.loads((order.folder / OUTCOME).read_text(encoding="utf-8"))
    config, _ = RunFolder(order.folder).read_config()
    scorers = [name for name, _ in parse_mix(config.scorers)]
    scorers += [config.judge] if config.judge else []
    size = {"--width": config.width, "--height": config.height}
    words = [config.checkpoint, str(order.folder / outcome["lora"])]
    words += [
        "--prompts",
        str(_some_prompts(order, config.prompts)),
        "--output",
        str(order.folder / COMPARISON),
    ]
    words += [word for name in scorers for word in ("--scorer", name)]
    words += [word for weight in COMPARED_WEIGHTS for word in ("--lora-weight", weight)]
    words += [word for flag, pixels in size.items() if pixels for word in (flag, str(pixels))]
    words += ["--vae", config.vae] if config.vae else []
    words += ["--guidance", str(order.compare_guidance), "--clip-skip", str(config.clip_skip)]
    words += ["--prediction", config.prediction, "--precision", config.precision]
    words += ["--cpu"] if config.cpu else []
    words += ["--weights-dir", order.scorers] if order.scorers else []
    return words + ([] if order.download else ["--no-download"])


def _some_prompts(order: Order, training: str) -> Path:
    """Write the prompts to compare with: at even distances, so that every theme of a list comes in."""
    from imagereward_ext.diffusion.prompts import read_prompts

    prompts = read_prompts(Path(order.compare_prompts or training))
    count = min(order.compare, len(prompts))
    chosen = [prompts[number * len(prompts) // count].replace("\n", " ") for number in range(count)]
    file = order.folder / "comparison-prompts.txt"
    write_text(file, "\n".join(chosen) + "\n")
    return file


def report(event: dict[str, Any]) -> None:
    """Write an event of the engine as a line of the log."""
    kind = event.get("kind")
    if kind != "note":
        _signals.end_at_once = False  # from the first figure on there is something to keep
    if kind == "update":
        _say(f"update {event['step']}: reward {event.get('reward', 0):.3f}, {event.get('seconds', 0):.1f} s")
    elif kind == "check":
        judge = f", judge {event['judge']:.3f}" if event.get("judge") is not None else ""
        _say(f"check after update {event['step']}: reward {event['reward']:.3f}{judge}")
    elif "text" in event:
        _say(str(event["text"]))


def _say(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, flush=True)


def _ended(outcome: Any) -> dict[str, Any]:
    return {
        "ending": outcome.ending,
        "reason": outcome.reason,
        "step": outcome.step,
        "lora": outcome.lora.name if outcome.lora else "",
        "lora_step": outcome.lora_step,
    }


def _failed(reason: str) -> dict[str, Any]:
    return {"ending": "failed", "reason": reason}


def _write_outcome(folder: Path, ending: dict[str, Any]) -> None:
    with suppress(OSError):  # a full disk: the log still says it
        write_text(folder / OUTCOME, json.dumps(ending, ensure_ascii=False))


class _StoppedWhileLoadingError(BaseException):
    """Not an Exception, so that no library between here and there takes it for a failure of its own."""


@dataclass
class _Signals:
    """What is known of them; plain values, since a handler may interrupt itself."""

    came: bool = False
    end_at_once: bool = False


_signals = _Signals()


@contextmanager
def _nothing_to_lose(stop_file: Path) -> Iterator[None]:
    """Let a signal end at once what is done within the block, or whoever asked before it."""
    _signals.end_at_once = True
    try:
        if _signals.came or stop_file.exists():
            raise _StoppedWhileLoadingError
        yield
    finally:
        _signals.end_at_once = False


def _on_signal(number: int, frame: object) -> None:
    _signals.came = True
    if _signals.end_at_once:
        raise _StoppedWhileLoadingError


def _end_with_the_webui(stop_file: Path, end: Callable[[int], None] = os._exit) -> None:
    """Ask the engine to stop when the pipe ends; end without it if it takes too long."""

    def wait() -> None:
        with suppress(OSError):
            while os.read(sys.stdin.fileno(), 1):
                pass
        ended = time.monotonic()
        while time.monotonic() - ended < SECONDS_AFTER_THE_WEBUI:
            with suppress(OSError):
                stop_file.touch()  # again and again: a resumed run takes an old one away when it begins
            time.sleep(_SECONDS_TO_ASK_AGAIN)
        end(5)

    threading.Thread(target=wait, name="end with the WebUI", daemon=True).start()
