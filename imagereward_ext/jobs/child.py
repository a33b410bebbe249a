"""The training process: it claims its run and its device, runs the engine, and compares before and after.

Its standard input is a pipe whose other end the WebUI holds and never writes to. When the WebUI ends, however it
ends, the pipe does too: that is portable, and cannot miss a parent that died early. A run that is to survive
the WebUI gets no pipe.
"""

from __future__ import annotations

import time
import traceback
from pathlib import Path
from typing import Any

from imagereward_ext.compute import Compute
from imagereward_ext.errors import ImageRewardError
from imagereward_ext.jobs.claim import ClaimError, claimed
from imagereward_ext.jobs.interruption import (
    StoppedEarlyError,
    answer_signals,
    end_with_the_webui,
    nothing_to_lose,
    something_to_lose,
)
from imagereward_ext.jobs.lora_folder import replace_interim
from imagereward_ext.jobs.order import JobError, Order, read_order
from imagereward_ext.memory import return_memory
from imagereward_ext.training.record import State, endings_told

DONE, FAILED, NO_ORDER, AT_WORK_ALREADY, DEVICE_IN_USE = range(5)
"""Exit codes; somebody who ends the process, or a crash, gives others."""


def main(folder: Path, device_lock: Path, follow: bool) -> int:
    """Carry out the order in a run's folder; return the exit code."""
    order = read_order(folder)
    if order is None:
        print(f"{folder} holds no order", flush=True)
        return NO_ORDER
    answer_signals()  # first: whoever sees who has the lock may send one
    try:
        with claimed(order.record.process_lock, order.name, f"the run {order.name} is at work already"):
            if follow:
                end_with_the_webui(order.record)
            return _carry_out(order, device_lock)
    except ClaimError as error:
        print(error, flush=True)
        return AT_WORK_ALREADY
    except JobError as error:  # the lock cannot be written
        return _give_up(order, error, FAILED)


def _carry_out(order: Order, device_lock: Path) -> int:
    refusal = f"another training uses this device ({order.device}): wait for it, or stop it"
    try:
        with claimed(device_lock, order.name, refusal):
            code = DONE if order.only_compare else _train(order)
            if order.record.state() is State.COMPARING:
                code = _compare(order)
            return code
    except JobError as error:
        return _give_up(order, error, DEVICE_IN_USE if isinstance(error, ClaimError) else FAILED)


def _give_up(order: Order, error: JobError, code: int) -> int:
    if order.only_compare:
        order.record.end_comparison()
    else:
        order.record.give_up(State.FAILED, str(error))
    print(error, flush=True)
    return code


def _train(order: Order) -> int:
    record = order.record
    try:
        with endings_told(record, begun=True, hint=" (details in the log)"), nothing_to_lose(record):
            outcome = _engine(order)
    except StoppedEarlyError:
        record.give_up(State.STOPPED, "stopped before the first update")
        _say("stopped before the first update")
        return DONE
    except ImageRewardError as error:
        print(error, flush=True)
        return FAILED
    except Exception:
        traceback.print_exc()
        return FAILED
    print(outcome.reason, flush=True)
    if order.resume and outcome.lora:
        for line in replace_interim(order, outcome.lora.name):
            _say(line)
    return DONE


def _engine(order: Order) -> Any:
    """Run the engine. It is imported here, when the locks are held: it takes seconds."""
    from imagereward_ext.refl.config import from_mapping
    from imagereward_ext.refl.training import resume, train
    from imagereward_ext.scorers import ScorerSpec, load_scorer

    def load(name: str) -> Any:
        return load_scorer(
            ScorerSpec(name, Path(order.scorers) if order.scorers else None, order.download),
            compute=Compute.of_switch(bool(order.config.get("cpu"))),
            report=_say,
        )

    if order.resume:
        # The engine takes anew only what it lets a resumed run change; it says so itself for the rest.
        given = {key: order.config[key] for key in ("output", "name", "cpu") if key in order.config}
        return resume(str(order.config["output"]), order.name, given, load, report, begun=True)
    return train(from_mapping(order.config), load, report, begun=True)


def _compare(order: Order) -> int:
    """Make images with and without the LoRA; whatever happens here, the training's own ending stands."""
    from imagereward_ext.evaluation.comparison import compare
    from imagereward_ext.jobs.comparison import comparison_request

    record = order.record
    try:
        with nothing_to_lose(record):
            _say("comparing before and after")
            return_memory()  # the trained model has gone, and the comparison loads it as a WebUI would
            made, _ = compare(comparison_request(order), _say)
            print(made.text(), flush=True)
            _say("the comparison is done")
            return DONE
    except StoppedEarlyError:
        _say("the comparison was stopped")
        return DONE
    except ImageRewardError as error:
        _say(f"the comparison failed: {error}")
    except Exception:
        traceback.print_exc()
        _say("the comparison failed; the lines above say why")
    finally:
        record.end_comparison()
    return FAILED


def report(event: dict[str, Any]) -> None:
    """Write an event of the engine as a line of the log."""
    kind = event.get("kind")
    if kind != "note":
        something_to_lose()  # from the first figure on
    if kind == "update":
        _say(f"update {event['step']}: reward {event.get('reward', 0):.3f}, {event.get('seconds', 0):.1f} s")
    elif kind == "check":
        judge = f", judge {event['judge']:.3f}" if event.get("judge") is not None else ""
        _say(f"check after update {event['step']}: reward {event['reward']:.3f}{judge}")
    elif "text" in event:
        _say(str(event["text"]))


def _say(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, flush=True)
