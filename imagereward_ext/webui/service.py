"""The one scorer and the one set of score histories of this process; "Reload UI" does not touch them."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from imagereward_ext.compute import Compute
from imagereward_ext.errors import ImageRewardError
from imagereward_ext.hosts import Host, current_host
from imagereward_ext.metadata.score_mark import ScoreMark
from imagereward_ext.residency import After, Policy, Residency, Status, Wish
from imagereward_ext.settings import read, schema
from imagereward_ext.webui import history as histories
from imagereward_ext.webui.history import History
from imagereward_ext.webui.options import AS_IN_SETTINGS, MOVE_TO_CPU, UNLOAD_IDLE, Settings
from imagereward_ext.weights.spec import ScorerSpec
from imagereward_ext.wording import Say, visible

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger("imagereward")


class _Visible(logging.Filter):
    """Keeps what prompts and names say from reaching the console as commands."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = visible(record.getMessage()), ()
        return True


log.addFilter(_Visible())

OPTION_PREFIX = "imagereward_"


class Service:
    """Scores for the WebUI: settings in, scores and plain sentences out."""

    def __init__(self, host: Host, residency: Residency | None = None) -> None:
        self.host = host
        self.residency = residency or Residency()
        self.card_is_lent: Callable[[], bool] = lambda: False
        """Whether a training has the graphics card: then scoring must not take from its memory."""
        self._histories: dict[tuple[str, str], History] = {}
        self._lock = threading.Lock()

    def settings(self) -> Settings:
        """Read the Settings page; a value without sense counts as its default."""
        missing = object()
        given = {name: self.host.option(OPTION_PREFIX + name, missing) for name in schema(Settings)}
        return read(Settings, {name: value for name, value in given.items() if value is not missing}).values

    def wish(self, scorer: str = "") -> Wish:
        """Say which scorer is wanted, and how it should run here."""
        settings = self.settings()
        spec = ScorerSpec(
            settings.scorer if scorer in ("", AS_IN_SETTINGS) else scorer,
            self.folder(settings),
            download=not self.host.flag("imagereward_no_download", False),
        )
        compute = Compute(self._device(settings), settings.precision, settings.batch_size or None)
        if compute.device != "cpu" and self.card_is_lent():
            compute = compute.on_cpu()
        return Wish(spec, compute)

    def folder(self, settings: Settings | None = None) -> Path:
        """Return where scorers are looked for first and downloaded to."""
        settings = settings or self.settings()
        chosen = self.host.flag("imagereward_dir") or settings.download_folder
        return Path(chosen) if chosen else self.host.models_folder() / "ImageReward"

    def score(
        self, images: Sequence[Image], prompts: Sequence[str], wish: Wish, report: Say | None = None
    ) -> list[ScoreMark | None]:
        """Score images; one that gives no number is None. Raises an error with a plain sentence when none can."""
        answer = self.residency.score(images, prompts, wish, report or self.host.jobs.tell)
        return [
            ScoreMark(answer.label, value, answer.digest) if math.isfinite(value) else None
            for value in answer.values
        ]

    def score_apart(
        self, images: Sequence[Image], prompts: Sequence[str], scorer: str = ""
    ) -> list[ScoreMark | None]:
        """Score images outside of the host's jobs, and give the memory back as after one, whatever happens."""
        try:
            return self.score(images, prompts, self.wish(scorer))
        finally:
            self.job_over()

    def names(self) -> list[str]:
        """List the scorers to choose from: the known ones, and the models the user trained."""
        from imagereward_ext.weights import catalogue, locate

        own = locate.model_folders(self.folder())
        return list(dict.fromkeys([*catalogue.ENTRIES, *own]))

    def history(self, label: str, digest: str) -> History:
        """Return the user's own scores by one scorer."""
        with self._lock:
            key = (label, digest)
            if key not in self._histories:
                self._histories[key] = History(self.history_folder(), label, digest)
            return self._histories[key]

    def current_history(self) -> History | None:
        """Return the scores a limit is compared with: those of the loaded scorer, else of the last used one."""
        status = self.residency.status()
        if status.name:
            return self.history(status.label, status.digest)
        files = [path for path in self.history_folder().glob("scores-*.txt") if path.is_file()]
        files.sort(key=lambda path: path.stat().st_mtime)
        return histories.opened(files[-1]) if files else None

    def history_folder(self) -> Path:
        """Return where the user's own scores are kept."""
        return self.host.data_folder() / "imagereward"

    def job_over(self) -> None:
        """Do what the user wants to happen to the scorer after a job."""
        settings = self.settings()
        after = {MOVE_TO_CPU: After.TO_CPU, UNLOAD_IDLE: After.IDLE}.get(settings.unload, After.KEEP)
        self.residency.job_over(Policy(after, settings.idle_minutes))

    def status(self) -> Status:
        """Say what is loaded."""
        return self.residency.status()

    def unload(self) -> str:
        """Unload the scorer and say what that gave."""
        name = self.residency.status().name
        freed = self.residency.unload()
        return (
            f"{name} is unloaded: {freed / 2**20:.0f} MB are free again." if name else "No scorer was loaded."
        )

    def _device(self, settings: Settings) -> str:
        chosen = str(self.host.flag("imagereward_device") or settings.device)
        if chosen != "auto":
            return chosen
        device = self.host.device()
        return device if device.split(":")[0] in ("cuda", "mps", "cpu") else "cpu"


@lru_cache(maxsize=1)
def service() -> Service:
    """Return the process-wide service."""
    return Service(current_host())


def error_message(error: Exception) -> str:
    """Say an error in one sentence; one that is not ours to explain also goes to the log in full."""
    if isinstance(error, ImageRewardError):
        return str(error)
    log.error("Unexpected error", exc_info=error)
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'} (details in the log)"
