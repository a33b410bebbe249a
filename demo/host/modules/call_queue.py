"""One job at a time: wrappers for what buttons call."""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable
from typing import Any

from modules import devices, errors, progress, shared

queue_lock = threading.Lock()  # not reentrant, as in a WebUI: taking it twice is a bug that shows


def wrap_gradio_gpu_call(func: Callable[..., Any], extra_outputs: list[Any]) -> Callable[..., Any]:
    """Wait for one's turn, be the running job, and show its progress; the first argument names the task."""

    def call(id_task: str, *args: Any) -> Any:
        progress.pending_tasks.add(id_task)
        started = time.perf_counter()
        with queue_lock:
            shared.state.begin(job=id_task)
            progress.start_task(id_task)
            try:
                *result, log = func(*args)
            finally:
                progress.finish_task(id_task)
                shared.state.end()
        seconds = time.perf_counter() - started
        return [*result, f"{log}<div class='performance'>Time taken: {seconds:.1f} sec.</div>"]

    return wrap_gradio_call(call, extra_outputs)


def wrap_gradio_call(func: Callable[..., Any], extra_outputs: list[Any]) -> Callable[..., Any]:
    """An exception becomes an error message in the last output, which is always HTML."""

    def call(*args: Any) -> list[Any]:
        try:
            return list(func(*args))
        except Exception as e:
            errors.report("Error completing request", exc_info=True)
            message = html.escape(f"{type(e).__name__}: {e}")
            return [*extra_outputs, f"<div class='error'>{message}</div>"]
        finally:
            devices.torch_gc()

    return call
