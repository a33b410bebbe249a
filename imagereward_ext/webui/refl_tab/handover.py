"""Memory, handed over to a training and taken back: the scorer and the WebUI's checkpoint make room."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagereward_ext.errors import ImageRewardError
from imagereward_ext.jobs.order import Order
from imagereward_ext.jobs.process import LOG
from imagereward_ext.jobs.queue import Queue
from imagereward_ext.webui.service import Service

log = logging.getLogger("imagereward")
GIGABYTE = 2**30


class TrainingRunsError(ImageRewardError):
    """A generation that was asked for while a training has the memory."""


TrainingRunsError.__name__ = "ImageReward"  # hosts show the person a class's name in front of the sentence


@dataclass(frozen=True)
class Memory:
    """What is in use, in bytes."""

    main: int
    device: int

    def freed_since(self, earlier: Memory) -> str:
        """Say how much less it is than before."""
        parts = []
        if earlier.device - self.device > 0:
            parts.append(f"{(earlier.device - self.device) / GIGABYTE:.1f} GB of the graphics card's memory")
        parts.append(f"{max(0, earlier.main - self.main) / GIGABYTE:.1f} GB of main memory")
        return " and ".join(parts)


class Handover:
    """Who has the memory, and how it changes hands."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._queue: Queue | None = None
        self._lent: Order | None = None
        """The order that has the memory. One that still waits for its turn lets the job at work begin further images."""

    def watch(self, queue: Queue) -> None:
        """Know what is at work; a training that an earlier WebUI left has the memory already."""
        self._queue, self._lent = queue, queue.busy()
        self._service.card_is_lent = lambda: self._keeps_out(queue.busy())

    def make_room(self, order: Order) -> None:
        """Unload the scorer and, unless images are to be generated meanwhile, the checkpoint."""
        host, residency = self._service.host, self._service.residency
        with host.queue():  # a generation at work finishes first
            self._lent = order
            before = in_use()
            residency.unload()
            if not order.generate:
                host.checkpoints.make_room()
            freed = in_use().freed_since(before)
        what = "The scorer was unloaded" if order.generate else "The checkpoint and the scorer were unloaded"
        note(order.folder, f"{what}: {freed} are free.")

    def give_back(self, order: Order) -> None:
        """Bring the checkpoint back at once, if that is wanted; whatever needs it first does otherwise."""
        host = self._service.host
        if order.generate:
            return
        # At once: a generation that waits for the queue longer than this may need it.
        host.checkpoints.load_when_asked()
        if not order.restore:
            return
        try:
            with host.queue():
                host.checkpoints.restore()
            note(order.folder, "The checkpoint is loaded again.")
        except Exception as error:  # the next generation tries again, and says what is wrong
            log.exception("The checkpoint could not be loaded after the training")
            note(order.folder, f"The checkpoint could not be loaded again: {error}")

    def refuse_if_training(self, job: Any) -> None:
        """Refuse a generation while a training has the memory."""
        order = self._queue.busy_for_long() if self._queue else None
        if order is not None and self._keeps_out(order):
            refuse(job, order)

    def _keeps_out(self, order: Order | None) -> bool:
        return order is not None and order is self._lent and not order.generate


def in_use() -> Memory:
    """Measure this process's main memory and what the graphics card holds."""
    torch = sys.modules.get("torch")
    device = 0
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        free, total = torch.cuda.mem_get_info()
        device = total - free
    return Memory(_resident(), device)


def free_for_training(generate: bool = False) -> tuple[float, float] | None:
    """Return (free for a training, total) of the graphics card in GB; None without one.

    The WebUI lets go of what it holds, unless it is to generate meanwhile.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    free, total = torch.cuda.mem_get_info()
    held = 0 if generate else torch.cuda.memory_reserved()
    return (free + held) / GIGABYTE, total / GIGABYTE


def refuse(job: Any, order: Order) -> None:
    """Make a generation end with a clear message before anything is loaded.

    Hosts log what a script's hook raises and go on. The first thing they do with the job after the earliest hook,
    outside every such net, is to look at its overridden settings: so that look raises.
    """
    job.override_settings = _Refusal(
        f"a training has the memory ({order.name}): generate when it is done, or stop it in the ReFL tab"
    )


class _Refusal(dict):  # type: ignore[type-arg]
    def __init__(self, sentence: str) -> None:
        super().__init__()
        self._sentence = sentence

    def _raise(self, *arguments: Any) -> Any:
        raise TrainingRunsError(self._sentence)

    keys = items = get = pop = __iter__ = __getitem__ = __contains__ = _raise


def note(folder: Path, text: str) -> None:
    """Add a line to a run's log."""
    try:
        with (folder / LOG).open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")
    except OSError:
        log.info(text)


def _resident() -> int:
    try:
        import psutil  # type: ignore[import-untyped]
    except ImportError:  # every WebUI has it; a test environment may not
        return 0
    return int(psutil.Process().memory_info().rss)
