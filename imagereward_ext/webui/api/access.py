"""Who may call: programs, and pages of this WebUI, with its credentials. Pages of other sites may not.

A browser sends what any page asks it to, and lets that page read the answer wherever the server's CORS headers say
so: gradio's allow every site as soon as the WebUI is not called localhost. But a browser always says which page asks.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import SplitResult, urlsplit

from fastapi import Depends, Request
from fastapi.security import HTTPBasic
from starlette.datastructures import Headers

from imagereward_ext.hosts import Host
from imagereward_ext.webui.api.answers import refusal

Check = Callable[[Request], Awaitable[None]]

_PORTS = {"http": 80, "https": 443}
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


def guards(host: Host, closed: bool = False) -> list[Any]:
    """Return the checks that stand before a route, in FastAPI's form.

    `closed` lets nobody in who has neither logged in at the page nor an account of `--api-auth`.
    """
    return [Depends(_page_check(host)), Depends(_credential_check(host, closed))]


def page_asks_for_a_login(host: Host) -> bool:
    """Whether gradio lets only those see the page who have logged in."""
    return any(host.flag(flag) for flag in ("gradio_auth", "gradio_auth_path"))


# ---- which page asks


def _page_check(host: Host) -> Check:
    """Refuse what a page of another site asks for, unless the WebUI's flags allow that site."""
    sites = str(host.flag("cors_allow_origins") or "").split(",")
    allowed = {site.strip() for site in sites if site.strip()}
    pattern = re.compile(str(host.flag("cors_allow_origins_regex") or r"(?!)"))

    async def check(request: Request) -> None:
        origin = request.headers.get("origin")
        if origin is not None and ("*" in allowed or origin in allowed or pattern.fullmatch(origin)):
            return
        site = request.headers.get("sec-fetch-site")  # sent to https and to localhost; no page can make it up
        own = site in ("same-origin", "none") if site else origin is None or _is_own(origin, request.headers)
        if not own:
            raise refusal(
                403,
                f"a page of another site ({origin or 'unnamed'}) asks, and this WebUI is "
                f"{request.headers.get('host', 'elsewhere')}; if it may, start the WebUI with "
                f"--cors-allow-origins {origin or '<that site>'}",
            )

    return check


def _is_own(origin: str, headers: Headers) -> bool:
    try:
        page = urlsplit(origin)
        port = page.port or _PORTS[page.scheme]
        return bool(page.hostname) and any(
            here.hostname == page.hostname and (here.port or port) == port for here in _addresses(headers)
        )
    except (KeyError, ValueError):  # "null", "chrome-extension://…", a port that is no number
        return False


def _addresses(headers: Headers) -> Iterator[SplitResult]:
    """Yield where this WebUI is, as its callers see it. A Host without a port may have lost it at a proxy.

    A page can make up the headers of a proxy, where CORS lets it send any; never Host. So a proxy is believed only
    where Host is this machine's own name, which gradio shuts to other sites.
    """
    host = urlsplit(f"//{headers.get('host', '')}")
    yield host
    if host.hostname in _THIS_MACHINE:
        yield urlsplit(f"//{headers.get('x-forwarded-host', '').partition(',')[0].strip()}")


# ---- who asks


def _credential_check(host: Host, closed: bool) -> Check:
    """Make the check the WebUI's own API does: `--api-auth user:password,user:password`.

    Who has logged in at the page needs no other credentials. Where the page asks for none, everybody sees it, so
    that nothing in it can stand for them.
    """
    wanted = str(host.flag("api_auth") or "")
    accounts = dict(entry.strip().split(":", 1) for entry in wanted.split(",") if ":" in entry)
    login = page_asks_for_a_login(host)
    basic = HTTPBasic()

    async def check(request: Request) -> None:
        if not (wanted or closed) or (login and _logged_in_as(request)):
            return
        if login and not accounts:  # the browser's own dialogue would ask for an account that nobody has
            raise refusal(401, "this page is not logged in: load it again")
        credentials = await basic(request)  # answers 401 itself when there are none
        password = accounts.get(credentials.username) if credentials else None
        right = password is not None and secrets.compare_digest(
            credentials.password.encode("utf-8"), password.encode("utf-8")
        )
        if not right:
            raise refusal(401, "wrong user name or password", {"WWW-Authenticate": "Basic"})

    return check


def _logged_in_as(request: Request) -> str:
    """Ask gradio for the user of this browser's session, "" when there is none."""
    for route in request.app.routes:
        if getattr(route, "path", "") == "/user":
            user = route.endpoint(request)
            return user if isinstance(user, str) else ""
    return ""
