"""What this extension keeps in memory: loaded at first use, held while it is wanted, given back completely.

One :class:`Residency` holds at most one scorer. It knows no host: what to load comes in as a :class:`Wish`, and
everything a person reads goes out as a :class:`Status` or a message.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from imagereward_ext.compute import Compute, precision_of
from imagereward_ext.errors import ScoringError
from imagereward_ext.memory import is_out_of_memory, return_memory
from imagereward_ext.weights.spec import ScorerSpec
from imagereward_ext.wording import Say

if TYPE_CHECKING:  # executing the WebUI's scripts must not load torch
    from PIL.Image import Image

    from imagereward_ext.scorers import Scorer


@dataclass(frozen=True)
class Wish:
    """Which scorer is wanted, and where it should run."""

    spec: ScorerSpec
    compute: Compute = field(default_factory=Compute)


class After(Enum):
    """What happens to the scorer when a job is over."""

    KEEP = "keep it loaded"
    TO_CPU = "move it to the CPU"
    IDLE = "unload it when idle"


@dataclass(frozen=True)
class Policy:
    """When memory is given back."""

    after: After = After.KEEP
    idle_minutes: float = 10.0


@dataclass(frozen=True)
class Status:
    """What is loaded right now; `name` is "" when nothing is."""

    name: str = ""
    label: str = ""
    digest: str = ""
    device: str = ""
    precision: str = ""
    size_in_bytes: int = 0
    fell_back: bool = False

    def __str__(self) -> str:
        if not self.name:
            return "No scorer is loaded."
        reason = ", because the other device was out of memory" if self.fell_back else ""
        megabytes = self.size_in_bytes / 2**20
        return f"{self.name} is loaded on {self.device}{reason}: {self.precision}, {megabytes:.0f} MB."


class Scores(NamedTuple):
    """Scores, and the scorer they came from: asking for it later might find another one loaded."""

    values: list[float]
    label: str
    digest: str


Load = Callable[[Wish, Say], "Scorer"]


def load_from_disk(wish: Wish, report: Say) -> Scorer:
    """Load a scorer the way everything else in this project does."""
    from imagereward_ext.scorers import load_scorer

    return load_scorer(wish.spec, compute=wish.compute, report=report)


class Residency:
    """Holds the loaded scorer. Every method may be called from any thread."""

    def __init__(self, load: Load = load_from_disk) -> None:
        self._load = load
        self._lock = threading.RLock()
        self._scorer: Scorer | None = None
        self._wish: Wish | None = None
        self._home = ""
        self._fell_back = False
        self._idle_timer: threading.Timer | None = None

    @contextmanager
    def borrow(self, wish: Wish, report: Say = lambda message: None) -> Iterator[Scorer]:
        """Lend the wished scorer, loading it when another one or none is loaded.

        Nobody else uses, moves or unloads it meanwhile.
        """
        with self._lock:
            self._stop_idle_timer()
            yield self._ready(wish, report)

    def score(
        self,
        images: Sequence[Image],
        prompts: Sequence[str],
        wish: Wish,
        report: Say = lambda message: None,
    ) -> Scores:
        """Score images; when the device runs out of memory, once more on the CPU."""
        try:
            return self._score(images, prompts, wish, report)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Outside the handler: the traceback would keep the failed attempt's tensors alive.
        with self._lock:
            if self._runs_on_cpu(wish):
                self.unload()
                raise ScoringError(
                    "the computer's memory is not enough for the scorer; close something and try again"
                )
            self.unload()
            report("Out of memory: scoring once more on the CPU.")
            try:
                self._take(wish, Wish(wish.spec, wish.compute.on_cpu()), report)
                self._fell_back = True
                return self._score(images, prompts, wish, report)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                self.unload()
                raise ScoringError(
                    "neither the graphics card nor the CPU has memory left for the scorer"
                ) from None

    def job_over(self, policy: Policy) -> None:
        """Do what the user wants to happen to the scorer after a job."""
        with self._lock:
            if self._scorer is None:
                return
            if self._fell_back:  # the next job may find room again
                self.unload()
            elif policy.after is After.TO_CPU:
                self._move("cpu")
            elif policy.after is After.IDLE:
                self._start_idle_timer(policy.idle_minutes * 60)

    def unload(self) -> int:
        """Forget the scorer and give its memory back to the system; return how many bytes it took."""
        with self._lock:
            self._stop_idle_timer()
            if self._scorer is None:
                return 0
            freed = self._scorer.size_in_bytes()
            self._scorer = self._wish = None
            self._fell_back = False
            return_memory()
            return freed

    def status(self) -> Status:
        """Say what is loaded, without loading anything."""
        with self._lock:
            if self._scorer is None:
                return Status()
            return Status(
                name=self._scorer.name,
                label=self._scorer.label,
                digest=self._scorer.digest,
                device=str(self._scorer.device),
                precision=precision_of(self._scorer.dtype),
                size_in_bytes=self._scorer.size_in_bytes(),
                fell_back=self._fell_back,
            )

    def _score(self, images: Sequence[Image], prompts: Sequence[str], wish: Wish, report: Say) -> Scores:
        with self.borrow(wish, report) as scorer, _host_autocast_off(scorer.device.type):
            return Scores(scorer.score(list(images), list(prompts)), scorer.label, scorer.digest)

    def _ready(self, wish: Wish, report: Say) -> Scorer:
        if self._scorer is None or self._wish != wish:
            self.unload()
            self._take(wish, wish, report)
        elif str(self._scorer.device) != self._home:
            self._move(self._home)
        assert self._scorer is not None
        return self._scorer

    def _take(self, wish: Wish, actual: Wish, report: Say) -> None:
        import torch

        # A host may call from within inference mode; weights made there could never be trained against.
        with torch.inference_mode(False), torch.no_grad():
            scorer = self._load(actual, report)
        self._scorer, self._wish, self._home = scorer, wish, str(scorer.device)

    def _move(self, device: str) -> None:
        assert self._scorer is not None
        self._scorer.to(device)
        return_memory()

    def _runs_on_cpu(self, wish: Wish) -> bool:
        """Tell where it should have run: a move that failed may have left the scorer behind."""
        home = self._home if self._scorer is not None else str(wish.compute.torch_device())
        return home == "cpu"

    def _start_idle_timer(self, seconds: float) -> None:
        self._stop_idle_timer()
        timer = threading.Timer(seconds, lambda: self._idle_over(timer))
        timer.daemon = True
        self._idle_timer = timer
        timer.start()

    def _idle_over(self, timer: threading.Timer) -> None:
        with self._lock:
            if timer is self._idle_timer:  # otherwise it was used while this waited for the lock
                self.unload()

    def _stop_idle_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None


def _host_autocast_off(device_type: str) -> AbstractContextManager[object]:
    """Keep a host's autocast out of the scorer; only these two kinds of device have one in every torch."""
    import torch

    return torch.autocast(device_type, enabled=False) if device_type in ("cuda", "cpu") else nullcontext()
