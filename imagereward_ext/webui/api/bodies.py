"""Reading what a request brings: bounded while it comes, and strict about what it means."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import HTTPException, Request
from starlette.requests import ClientDisconnect

from imagereward_ext.errors import UsageError
from imagereward_ext.webui.api.answers import refusal

JSON = "application/json"
FORM = "multipart/form-data"

UPLOAD_SECONDS = 300
MOST_VALUES = 2**20
"""Of a JSON text: each takes some 60 bytes when parsed, be it written in two."""
MOST_LEVELS = 16
MOST_DIGITS = 20


class Budget:
    """The bytes that requests in flight may hold together."""

    def __init__(self, most: int) -> None:
        self.left = most

    @contextmanager
    def lend(self) -> Iterator[Loan]:
        """Lend a request what it takes, until it is answered."""
        loan = Loan(self)
        try:
            yield loan
        finally:
            self.left += loan.taken


class Loan:
    """What one request has taken from a budget."""

    def __init__(self, budget: Budget) -> None:
        self.taken = 0
        self._budget = budget

    def take(self, count: int) -> None:
        """Take bytes, as long as there are some."""
        if count > self._budget.left:
            raise refusal(503, "the requests at work hold all the memory there is for them; try again later")
        self._budget.left -= count
        self.taken += count


def content_type(request: Request, *allowed: str) -> str:
    """Return the kind of content, one of those allowed: a page of any site may send a form or plain text unasked."""
    given: str = request.headers.get("content-type", "")
    kind = given.partition(";")[0].strip().lower()
    if kind not in allowed:
        wanted = " or ".join(kind for kind in allowed if kind)
        raise refusal(415, f"the content type is {given or 'missing'}; send {wanted}")
    return kind


async def read_body(request: Request, most: int, loan: Loan) -> bytes:
    """Read a body as it comes, whatever its header says of its length."""
    parts = []

    async def read() -> None:
        async for part in request.stream():
            if loan.taken + len(part) > most:
                raise refusal(413, f"the request is larger than {most // 2**20} MB")
            loan.take(len(part))
            parts.append(part)

    try:
        await asyncio.wait_for(read(), UPLOAD_SECONDS)
    except asyncio.TimeoutError as error:
        raise refusal(408, f"the request took more than {UPLOAD_SECONDS} s to arrive") from error
    except ClientDisconnect as error:  # nobody is there to read this
        raise HTTPException(400, "the request was cut off") from error
    return b"".join(parts)


def read_json(body: bytes) -> Any:
    """Parse JSON as its standard has it, with no name twice, and no more of it than is worth anything."""
    if sum(map(body.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise UsageError(f"the body has more than {MOST_VALUES:,} values")
    try:
        value = json.loads(
            body,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_refuse_constant,
        )
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        raise UsageError(f"the body is no JSON: {error}") from error
    _refuse_depth(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"{twice!r} stands twice in one object")
    return values


def _integer(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise UsageError(f"a number has {len(digits):,} digits; more than {MOST_DIGITS} are not read")
    return int(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        _refuse_constant(digits)
    return number


def _refuse_constant(word: str) -> None:
    raise UsageError(f"{word[:MOST_DIGITS]} is no finite number")


def _refuse_depth(value: Any) -> None:
    """Refuse what later code, which may follow it by recursion, would not come back from."""
    level = [value]
    for _ in range(MOST_LEVELS):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return
    raise _too_deep()


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _too_deep() -> UsageError:
    return UsageError(f"the body is no JSON of at most {MOST_LEVELS} levels")
