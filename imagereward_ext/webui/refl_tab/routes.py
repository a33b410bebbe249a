"""`/imagereward/v1/train/…`: what the tab does, over HTTP. Names go in and out, never paths."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse

from imagereward_ext.errors import ImageRewardError
from imagereward_ext.webui.refl_tab.training import Training
from imagereward_ext.webui.routes import PREFIX as WHOLE_PREFIX
from imagereward_ext.webui.routes import credential_check
from imagereward_ext.webui.service import Service, plain

PREFIX = f"{WHOLE_PREFIX}/train"
TOKEN_HEADER = "x-imagereward-token"
MOST_BYTES = 2**20

Answer = dict[str, Any]


def add(app: FastAPI, service: Service, training: Training) -> None:
    """Add the routes to the host's server, once."""
    if any(getattr(route, "path", "") == f"{PREFIX}/status" for route in app.routes):
        return
    # These routes are there without --api, too: where the page asks for a login, they are not open to the network.
    login = any(service.host.flag(flag) for flag in ("gradio_auth", "gradio_auth_path"))
    guard = [
        Depends(credential_check(service, lambda request: _from_the_tab(request, training), closed=login))
    ]
    reading: dict[str, Callable[..., Any]] = {
        "status": lambda q: training.status(q.get("run", ""), _int(q, "starts", -1), _int(q, "position", 0)),
        "runs": lambda q: {"runs": training.runs()},
        "report": lambda q: training.report(q.get("run", "")),
        "picture": lambda q: FileResponse(training.picture(q.get("run", ""), q.get("file", ""))),
    }
    doing: dict[str, Callable[[Answer], Answer]] = {
        "plan": training.plan,
        "start": lambda body: _run(training.start(body)),
        "stop": lambda body: _run(training.stop(_name(body), body.get("now") is True)),
        "resume": lambda body: _run(training.resume(_name(body))),
        "compare": lambda body: _run(training.compare(_name(body), body.get("fields", {}))),
        "delete": lambda body: _done(training.delete, _name(body), "deleted"),
        "folder": lambda body: _done(training.open_folder, _name(body), "open"),
    }
    for name, work in reading.items():
        app.add_api_route(
            f"{PREFIX}/{name}",
            _reader(work, training),
            methods=["GET"],
            dependencies=guard,
            response_model=None,
        )
    for name, work in doing.items():
        app.add_api_route(
            f"{PREFIX}/{name}",
            _doer(work, training),
            methods=["POST"],
            dependencies=guard,
            response_model=None,
        )


def _reader(work: Callable[..., Any], training: Training) -> Callable[..., Any]:
    async def read(request: Request) -> Any:
        query = dict(request.query_params)
        return await run_in_threadpool(_answer, lambda: work(query), training)

    return read


def _doer(work: Callable[[Answer], Answer], training: Training) -> Callable[..., Any]:
    async def do(request: Request) -> Any:
        body = await _body(request)
        return await run_in_threadpool(_answer, lambda: work(body), training)

    return do


async def _body(request: Request) -> Answer:
    # A foreign page may send a form or plain text here unasked, but JSON only with the server's permission.
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise HTTPException(415, "send JSON, with the content type application/json")
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_BYTES:
            raise HTTPException(413, f"the request is larger than {MOST_BYTES // 2**20} MB")
        parts.append(part)
    try:
        body = json.loads(b"".join(parts) or b"{}")
    except ValueError as error:
        raise HTTPException(422, f"the body is no JSON: {error}") from error
    if not isinstance(body, dict):
        raise HTTPException(422, 'the body must be a JSON object such as {"name": "nicer"}')
    return body


def _answer(work: Callable[[], Any], training: Training) -> Any:
    try:
        return work()
    except ImageRewardError as error:
        raise HTTPException(422, training.shown(str(error))) from error
    except Exception as error:
        raise HTTPException(500, training.shown(plain(error))) from error


def _from_the_tab(request: Request, training: Training) -> bool:
    given = request.headers.get(TOKEN_HEADER) or request.query_params.get("token") or ""
    return secrets.compare_digest(given.encode(), training.token.encode())


def _run(run: Any) -> Answer:
    return {"name": run.name, "state": run.state}


def _done(work: Callable[[str], None], name: str, state: str) -> Answer:
    work(name)
    return {"name": name, "state": state}


def _name(body: Answer) -> str:
    return str(body.get("name", ""))


def _int(query: dict[str, str], name: str, default: int) -> int:
    text = query.get(name, "")
    return int(text) if text.lstrip("-").isdigit() else default
