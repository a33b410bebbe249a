"""Which task is queued, running, finished; asked by the page while it waits."""

from __future__ import annotations

import base64
import io
from collections import deque
from typing import Any

from pydantic import BaseModel

from modules import shared

current_task: str | None = None
pending_tasks: set[str] = set()
finished_tasks: deque[str] = deque(maxlen=16)


def start_task(id_task: str) -> None:
    global current_task
    current_task = id_task
    pending_tasks.discard(id_task)


def finish_task(id_task: str) -> None:
    global current_task
    current_task = None
    finished_tasks.append(id_task)


class ProgressRequest(BaseModel):
    id_task: str | None = None
    id_live_preview: int = -1


def progressapi(req: ProgressRequest) -> dict[str, Any]:
    state = shared.state
    active = req.id_task is not None and req.id_task == current_task
    answer: dict[str, Any] = {
        "active": active,
        "queued": req.id_task in pending_tasks,
        "completed": req.id_task in finished_tasks,
        "textinfo": state.textinfo if active else "Waiting...",
    }
    if active:
        answer["progress"] = state.fraction_done()
        state.set_current_image(shared.opts.show_progress_every_n_steps)
        if state.current_image is not None and state.id_live_preview != req.id_live_preview:
            buffer = io.BytesIO()
            state.current_image.save(buffer, format="png")
            encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
            answer["live_preview"] = f"data:image/png;base64,{encoded}"
            answer["id_live_preview"] = state.id_live_preview
    return answer


def ping() -> dict[str, str]:
    """Asked by the page until the UI is there again."""
    return {}


def setup_progress_api(app: Any) -> None:
    app.add_api_route("/internal/progress", progressapi, methods=["POST"])
    app.add_api_route("/internal/ping", ping, methods=["GET"])
