"""`/imagereward/v1/train/…`: what the tab does, over HTTP. Names go in and out, never paths."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse

from imagereward_ext.errors import UsageError
from imagereward_ext.settings import openapi
from imagereward_ext.webui.api.access import guards, page_asks_for_a_login
from imagereward_ext.webui.api.answers import answer
from imagereward_ext.webui.api.bodies import JSON, Budget, content_type, read_body, read_json
from imagereward_ext.webui.api.line import Line
from imagereward_ext.webui.api.routes import PREFIX as WHOLE_PREFIX
from imagereward_ext.webui.refl_tab.training import TrainingService
from imagereward_ext.webui.service import Service

PREFIX = f"{WHOLE_PREFIX}/train"
MOST_BYTES = 2**20
MOST_BYTES_TOGETHER = 32 * MOST_BYTES
MOST_AT_ONCE = 8
"""Threads for what takes time: a plan is given up for the next one, and both are at work until it notices."""

_NUMBER = re.compile(r"-?[0-9]{1,18}")

Answer = dict[str, Any]


def add(app: FastAPI, service: Service, training: TrainingService) -> None:
    """Add the routes to the host's server, once."""
    if any(getattr(route, "path", "") == f"{PREFIX}/status" for route in app.routes):
        return
    # These routes are there without --api, too: where the page asks for a login, they are not open to the network.
    checks = guards(service.host, closed=page_asks_for_a_login(service.host))
    line, budget = Line(MOST_AT_ONCE), Budget(MOST_BYTES_TOGETHER)
    for route in _reading(training):
        app.add_api_route(
            f"{PREFIX}/{route.name}",
            _reader(route.work, training),
            methods=["GET"],
            dependencies=checks,
            response_model=None,
            name=f"train_{route.name}",
            description=route.about,
            openapi_extra=_query(route),
        )
    for route in _doing(training):
        app.add_api_route(
            f"{PREFIX}/{route.name}",
            _doer(route.work, training, line, budget),
            methods=["POST"],
            dependencies=checks,
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
        _Route("compare", lambda body: _run(training.compare(_name(body), _fields(body))),
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
    return openapi.request_body({JSON: openapi.object_of(route.takes, route.required)})


def _reader(work: Callable[..., Any], training: TrainingService) -> Callable[..., Any]:
    async def read(request: Request) -> Any:
        query = dict(request.query_params)
        return await run_in_threadpool(answer, partial(work, query), training.privacy.shown)

    return read


def _doer(
    work: Callable[[Answer], Answer], training: TrainingService, line: Line, budget: Budget
) -> Callable[..., Any]:
    async def do(request: Request) -> Any:
        content_type(request, JSON)
        with budget.lend() as loan:
            body = await read_body(request, MOST_BYTES, loan)
            return await line.run(partial(answer, lambda: work(_object(body)), training.privacy.shown))

    return do


def _object(body: bytes) -> Answer:
    given = read_json(body or b"{}")
    if not isinstance(given, dict):
        raise UsageError('the body must be a JSON object such as {"name": "nicer"}')
    return given


def _fields(body: Answer) -> Answer:
    given = body.get("fields", {})
    if not isinstance(given, dict):
        raise UsageError('fields must be an object such as {"prompt_text": "a cat"}')
    return given


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
