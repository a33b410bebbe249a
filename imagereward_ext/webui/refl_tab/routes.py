"""`/imagereward/v1/train/…`: what the tab does, over HTTP. Names go in and out, never paths."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse

from imagereward_ext.errors import ImageRewardError
from imagereward_ext.settings import openapi
from imagereward_ext.webui.api.routes import PREFIX as WHOLE_PREFIX
from imagereward_ext.webui.api.routes import credential_check
from imagereward_ext.webui.refl_tab.training import TrainingService
from imagereward_ext.webui.service import Service, error_message

PREFIX = f"{WHOLE_PREFIX}/train"
TOKEN_HEADER = "x-imagereward-token"
MOST_BYTES = 2**20

_NUMBER = re.compile(r"-?[0-9]{1,18}")

Answer = dict[str, Any]


def add(app: FastAPI, service: Service, training: TrainingService) -> None:
    """Add the routes to the host's server, once."""
    if any(getattr(route, "path", "") == f"{PREFIX}/status" for route in app.routes):
        return
    # These routes are there without --api, too: where the page asks for a login, they are not open to the network.
    login = any(service.host.flag(flag) for flag in ("gradio_auth", "gradio_auth_path"))
    guard = [
        Depends(credential_check(service, lambda request: _from_the_tab(request, training), closed=login))
    ]
    for route in _reading(training):
        app.add_api_route(
            f"{PREFIX}/{route.name}",
            _reader(route.work, training),
            methods=["GET"],
            dependencies=guard,
            response_model=None,
            name=f"train_{route.name}",
            description=route.about,
            openapi_extra=_query(route),
        )
    for route in _doing(training):
        app.add_api_route(
            f"{PREFIX}/{route.name}",
            _doer(route.work, training),
            methods=["POST"],
            dependencies=guard,
            response_model=None,
            name=f"train_{route.name}",
            description=route.about,
            openapi_extra=_json_body(route),
        )


@dataclass(frozen=True)
class _Route:
    """What a route does, and what it takes, as OpenAPI spells it."""

    name: str
    work: Callable[[Any], Any]
    about: str
    takes: Answer = field(default_factory=dict)
    required: tuple[str, ...] = ()


def _reading(training: TrainingService) -> list[_Route]:
    run = _text("a run's name")
    return [
        _Route(
            "status",
            lambda q: training.views.status(q.get("run", ""), _int(q, "starts", -1), _int(q, "position", 0)),
            "Tell the state of every run; of one of them (the one at work, if none is named) its events and the end of its log.",
            {
                "run": run,
                "starts": _whole("`starts` of the answer before: the same run goes on from `position`"),
                "position": _whole("`position` of the answer before: only later events are told"),
            },
        ),
        _Route("runs", lambda q: {"runs": training.views.runs()}, "List the runs, newest first."),
        _Route("report", lambda q: training.views.report(q.get("run", "")), "Tell a run's comparison of before and after.",
               {"run": run}, ("run",)),
        _Route("picture", lambda q: FileResponse(training.views.picture(q.get("run", ""), q.get("file", ""))),
               "Give a picture that `status` or `report` names.", {"run": run, "file": _text("its name")}, ("run", "file")),
    ]  # fmt: skip


def _doing(training: TrainingService) -> list[_Route]:
    from imagereward_ext.webui.refl_tab import form

    fields = openapi.properties(form.fields().values())
    name = {"name": _text("a run's name")}
    now = {
        "now": {"type": "boolean", "description": "end it without waiting for its update", "default": False}
    }
    again = {
        "fields": {
            "type": "object",
            "properties": fields,
            "description": "which prompts, and how many of them",
        }
    }
    return [
        _Route("plan", training.plan, "Estimate what a training would take, without starting it.", fields),
        _Route("start", lambda body: _run(training.start(body)), "Start a training, or put it into the queue. What is not "
               "given keeps its default.", fields, ("name",)),
        _Route("stop", lambda body: _run(training.stop(_name(body), body.get("now") is True)),
               "Let a run finish its update, save and end.", name | now, ("name",)),
        _Route("resume", lambda body: _run(training.resume(_name(body))), "Let a run go on.", name, ("name",)),
        _Route("compare", lambda body: _run(training.compare(_name(body), body.get("fields", {}))),
               "Make images before and after again, with other prompts.", name | again, ("name",)),
        _Route("delete", lambda body: _done(training.delete, _name(body), "deleted"),
               "Remove a run. A LoRA that was copied into the LoRA folder stays.", name, ("name",)),
        _Route("folder", lambda body: _done(training.open_folder, _name(body), "open"),
               "Open a run's folder on the screen of the machine that the WebUI runs on.", name, ("name",)),
    ]  # fmt: skip


def _text(about: str) -> Answer:
    return {"type": "string", "description": about}


def _whole(about: str) -> Answer:
    return {"type": "integer", "description": about}


def _query(route: _Route) -> Answer:
    return {
        "parameters": [
            {"name": name, "in": "query", "required": name in route.required, "schema": schema}
            for name, schema in route.takes.items()
        ]
    }


def _json_body(route: _Route) -> Answer:
    schema: Answer = {"type": "object", "properties": route.takes}
    if route.required:
        schema["required"] = list(route.required)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _reader(work: Callable[..., Any], training: TrainingService) -> Callable[..., Any]:
    async def read(request: Request) -> Any:
        query = dict(request.query_params)
        return await run_in_threadpool(_answer, lambda: work(query), training)

    return read


def _doer(work: Callable[[Answer], Answer], training: TrainingService) -> Callable[..., Any]:
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
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, f"the body is no JSON: {error}") from error
    if not isinstance(body, dict):
        raise HTTPException(422, 'the body must be a JSON object such as {"name": "nicer"}')
    return body


def _answer(work: Callable[[], Any], training: TrainingService) -> Any:
    try:
        return work()
    except ImageRewardError as error:
        raise HTTPException(422, training.privacy.shown(str(error))) from error
    except Exception as error:
        raise HTTPException(500, training.privacy.shown(error_message(error))) from error


def _from_the_tab(request: Request, training: TrainingService) -> bool:
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
    return int(text) if _NUMBER.fullmatch(text) else default
