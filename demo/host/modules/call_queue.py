"""One job at a time: wrappers for what buttons call."""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from modules import devices, errors, progress, shared

queue_lock = threading.Lock()  # not reentrant, as in a WebUI: taking it twice is a bug that shows


def wrap_queued_call(func: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with queue_lock:
            return func(*args, **kwargs)

    return call


def wrap_gradio_gpu_call(
    func: Callable[..., Any], extra_outputs: list[Any] | None = None
) -> Callable[..., Any]:
    """Wait for one's turn, be the running job, and show its progress when the first argument is `task(...)`."""

    @wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        first = args[0] if args else None
        id_task = (
            first if isinstance(first, str) and first.startswith("task(") and first.endswith(")") else None
        )
        progress.add_task_to_queue(id_task)
        with queue_lock:
            shared.state.begin(job=id_task)
            progress.start_task(id_task)
            try:
                return func(*args, **kwargs)
            finally:
                progress.finish_task(id_task)
                shared.state.end()

    return wrap_gradio_call(call, extra_outputs=extra_outputs, add_stats=True)


def wrap_gradio_call(
    func: Callable[..., Any], extra_outputs: list[Any] | None = None, add_stats: bool = False
) -> Callable[..., Any]:
    @wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return func(*args, **kwargs)
        finally:
            shared.state.skipped = shared.state.interrupted = shared.state.stopping_generation = False
            shared.state.job, shared.state.job_count = "", 0

    return wrap_gradio_call_no_job(call, extra_outputs, add_stats)


def wrap_gradio_call_no_job(
    func: Callable[..., Any], extra_outputs: list[Any] | None = None, add_stats: bool = False
) -> Callable[..., Any]:
    """An exception becomes an error message in the last output, which is always HTML."""

    @wraps(func)
    def call(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
        started = time.perf_counter()
        try:
            result = list(func(*args, **kwargs))
        except Exception as e:
            errors.report("Error completing request", exc_info=True)
            message = html.escape(f"{type(e).__name__}: {e}")
            result = [
                *([None, ""] if extra_outputs is None else extra_outputs),
                f"<div class='error'>{message}</div>",
            ]
        devices.torch_gc()
        if add_stats:
            seconds = f"{time.perf_counter() - started:.1f} sec."
            result[-1] += f"<div class='performance'><p class='time'>Time taken: <wbr>{seconds}</p></div>"
        return tuple(result)

    return call
