"""`/imagereward/v1/…`: scoring over HTTP, with the credentials of the WebUI's own API."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool

from imagereward_ext import __version__
from imagereward_ext.errors import ScoringError, UsageError, WeightsError
from imagereward_ext.webui.api import pictures, score_request
from imagereward_ext.webui.api.access import guards, page_asks_for_a_login
from imagereward_ext.webui.api.answers import answer
from imagereward_ext.webui.api.bodies import FORM, JSON, Budget, content_type, read_body
from imagereward_ext.webui.api.line import Line
from imagereward_ext.webui.api.score_request import ScoreRequest
from imagereward_ext.webui.options import AS_IN_SETTINGS
from imagereward_ext.webui.privacy import Privacy
from imagereward_ext.webui.service import Service

PREFIX = "/imagereward/v1"
MOST_BYTES = 128 * 2**20
MOST_BYTES_TOGETHER = 4 * MOST_BYTES

Answer = dict[str, Any]


def add(app: FastAPI, service: Service) -> None:
    """Add the routes to the host's server, once."""
    if any(getattr(route, "path", "") == f"{PREFIX}/version" for route in app.routes):
        return
    host = service.host
    # These routes are there without --api, too: where the page asks for a login, they are not open to the network.
    checks = guards(host, closed=page_asks_for_a_login(host) and not host.flag("api"))
    shown = Privacy(service).shown
    budget = Budget(MOST_BYTES_TOGETHER)
    parsing, scoring, unloading = Line(), Line(), Line()

    async def score(request: Request) -> Answer:
        """Score images: `{"images": [...], "prompts": "a red fox"}` gives `{"scores": [0.53], ...}`."""
        kind = content_type(request, JSON, FORM)
        with budget.lend() as loan:
            body = await read_body(request, MOST_BYTES, loan)
            parse = partial(score_request.parse, kind, request.headers["content-type"], body)
            wanted = await parsing.run(partial(answer, parse, shown))
            del body, parse
            work = partial(score_images, service, wanted)
            # One request at a time is decoded: what is decoded is many times what came.
            scores: Answer = await scoring.run(partial(answer, work, shown, (WeightsError, ScoringError)))
            return scores

    async def models() -> Answer:
        """List the scorers, and say which one is loaded."""
        listed: Answer = await run_in_threadpool(answer, partial(list_models, service), shown)
        return listed

    async def unload(request: Request) -> Answer:
        """Unload the scorer and say how much memory that freed."""
        content_type(request, "", JSON, FORM)
        return {"message": await unloading.run(partial(answer, service.unload, shown))}

    async def version() -> dict[str, str]:
        """Tell the version of this extension."""
        return {"version": __version__}

    app.add_api_route(
        f"{PREFIX}/score", score, methods=["POST"], dependencies=checks, openapi_extra=score_request.schema()
    )
    app.add_api_route(f"{PREFIX}/models", models, methods=["GET"], dependencies=checks)
    app.add_api_route(f"{PREFIX}/unload", unload, methods=["POST"], dependencies=checks)
    app.add_api_route(f"{PREFIX}/version", version, methods=["GET"], dependencies=checks)


def score_images(service: Service, wanted: ScoreRequest) -> Answer:
    """Score the images of a request in the host's queue."""
    scorer = _known(wanted.scorer, service)
    images = pictures.decoded(wanted.images)
    given = service.settings().text
    prompts = [
        prompt if prompt.strip() else given or _own_prompt(file, number)
        for number, (file, prompt) in enumerate(zip(wanted.images, wanted.prompts, strict=True), start=1)
    ]
    with service.host.queue():
        marks = service.score_apart(images, prompts, scorer)
    first = next((mark for mark in marks if mark is not None), None)
    return {
        "scores": [None if mark is None else mark.value for mark in marks],
        "scorer": first.label if first else "",
        "hash": first.digest if first else "",
    }


def _own_prompt(file: bytes, number: int) -> str:
    prompt = pictures.prompt_in(file, number)
    if not prompt:
        raise UsageError(f"image {number} holds no prompt, and none was given for it")
    return prompt


def list_models(service: Service) -> Answer:
    """List names; a path never leaves or enters through a route."""
    status = service.status()
    return {
        "models": service.names(),
        "default": service.settings().scorer,
        "loaded": None
        if not status.name
        else {
            "name": status.name,
            "device": status.device,
            "precision": status.precision,
            "bytes": status.size_in_bytes,
        },
    }


def _known(scorer: str, service: Service) -> str:
    """Take names only: the loader itself would also open a path."""
    if scorer != AS_IN_SETTINGS and scorer not in service.names():
        raise UsageError(f"no scorer is called {scorer[:100]!r}; there are {', '.join(service.names())}")
    return scorer
