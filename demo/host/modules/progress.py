"""Which task is queued, running, finished; asked by the page while it waits."""

from __future__ import annotations

import base64
import io
import secrets
import time
from collections import OrderedDict, deque
from typing import Any

from pydantic import BaseModel

from modules import shared

current_task: str | None = None
pending_tasks: OrderedDict[str, float] = OrderedDict()
finished_tasks: deque[str] = deque(maxlen=16)


def create_task_id(task_type: str) -> str:
    return f"task({task_type}-{secrets.token_hex(4)})"


def add_task_to_queue(id_job: str | None) -> None:
    if id_job:
        pending_tasks[id_job] = time.time()


def start_task(id_task: str | None) -> None:
    global current_task
    current_task = id_task
    pending_tasks.pop(id_task or "", None)


def finish_task(id_task: str | None) -> None:
    global current_task
    if current_task == id_task:
        current_task = None
    if id_task:
        finished_tasks.append(id_task)


def fraction_done() -> float:
    """0..1 of the running job: whole parts done, and the steps of the part in hand."""
    state = shared.state
    if state.job_count <= 0:
        return 0.0
    within = state.sampling_step / state.sampling_steps if state.sampling_steps > 0 else 0.0
    return min((state.job_no + within) / state.job_count, 1.0)


class ProgressRequest(BaseModel):
    id_task: str | None = None
    id_live_preview: int = -1
    live_preview: bool = True


def progressapi(req: ProgressRequest) -> dict[str, Any]:
    active = req.id_task is not None and req.id_task == current_task
    answer: dict[str, Any] = {
        "active": active,
        "queued": req.id_task in pending_tasks,
        "completed": req.id_task in finished_tasks,
        "id_live_preview": req.id_live_preview,
        "progress": None,
        "eta": None,
        "live_preview": None,
        "textinfo": shared.state.textinfo if active else "Waiting...",
    }
    if active:
        done, elapsed = fraction_done(), time.time() - shared.state.time_start
        answer["progress"] = done
        answer["eta"] = elapsed / done - elapsed if done > 0 else None
        if req.live_preview:
            shared.state.set_current_image()
            image = shared.state.current_image
            if image is not None and shared.state.id_live_preview != req.id_live_preview:
                buffer = io.BytesIO()
                image.save(buffer, format="png")
                encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
                answer["live_preview"] = f"data:image/png;base64,{encoded}"
                answer["id_live_preview"] = shared.state.id_live_preview
    return answer


def setup_progress_api(app: Any) -> None:
    app.add_api_route("/internal/progress", progressapi, methods=["POST"])
