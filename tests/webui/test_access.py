"""Which pages and which programs the routes answer."""

from __future__ import annotations

import pytest

pytest.importorskip("httpx")

from fastapi import FastAPI
from fastapi.testclient import TestClient

from imagereward_ext.webui.api import routes
from tests.webui.services import make_service

ROUTES = [("GET", "version"), ("GET", "models"), ("POST", "unload"), ("POST", "score")]


def client_of(tmp_path, **flags):
    app = FastAPI()
    routes.add(app, make_service(tmp_path, **flags))
    return TestClient(app)


def admitted(client, **headers):
    """Ask to unload; a header's name is spelled with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    status = client.post("/imagereward/v1/unload", headers=named).status_code
    assert status in (200, 403)
    return status == 200


@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_no_route_answers_a_page_of_another_site(tmp_path, method, route):
    client = client_of(tmp_path)
    for headers in (
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"origin": "http://testserver", "sec-fetch-site": "cross-site"},
    ):
        told = client.request(method, f"/imagereward/v1/{route}", headers=headers)
        assert told.status_code == 403
        assert "another site" in told.json()["detail"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""])
def test_what_any_page_may_send_unasked_is_refused(tmp_path, kind):
    client = client_of(tmp_path)
    told = client.post("/imagereward/v1/score", content=b'{"images": []}', headers={"content-type": kind})
    assert told.status_code == 415
    assert "application/json or multipart/form-data" in told.json()["detail"]
    told = client.post("/imagereward/v1/unload", content=b"x", headers={"content-type": kind})
    assert told.status_code == (415 if kind else 200)


def test_the_own_page_is_known_by_the_name_it_was_asked_under(tmp_path):
    client = client_of(tmp_path)
    assert admitted(client)  # curl, a script
    assert admitted(client, origin="http://testserver", sec_fetch_site="same-origin")
    assert admitted(client, host="192.168.1.5:7860", origin="http://192.168.1.5:7860")
    assert admitted(client, host="[::1]:7860", origin="http://[::1]:7860")
    assert admitted(client, host="ui.example", origin="https://ui.example")
    assert admitted(client, host="UI.example", origin="https://ui.example:443")
    assert not admitted(client, host="192.168.1.5:7860", origin="http://192.168.1.5:8080")
    assert not admitted(client, host="192.168.1.5:7860", origin="http://192.168.1.5")
    assert not admitted(
        client, host="127.0.0.1:7860", origin="http://127.0.0.1:3000", sec_fetch_site="same-site"
    )
    assert not admitted(client, host="localhost:7860", origin="http://127.0.0.1:7860")
    for origin in ("http://", "//testserver", "file://testserver", "http://testserver:x", "http://[", ""):
        assert not admitted(client, origin=origin)
    for host in ("", "[", "x:y", "testserver:99999999"):
        assert not admitted(client, host=host, origin="http://testserver")


def test_a_proxy_is_believed_what_a_page_cannot_make_up(tmp_path):
    client = client_of(tmp_path)
    mine = {"origin": "https://ui.example"}
    assert admitted(client, **mine, host="127.0.0.1:7860", x_forwarded_host="ui.example")
    assert admitted(client, **mine, host="localhost:7860", x_forwarded_host="ui.example, proxy.example")
    # Where CORS lets any page send any header, this one would let any page in.
    assert not admitted(client, **mine, host="192.168.1.5:7860", x_forwarded_host="ui.example")
    # What the proxy of a rented machine sends, and nginx where nobody told it of Host; of https a browser says more.
    elsewhere = {"origin": "https://x-8188.proxy.example", "host": "100.65.18.228"}
    assert admitted(client, **elsewhere, sec_fetch_site="same-origin")
    assert not admitted(client, **elsewhere)
    assert not admitted(client, **elsewhere, x_forwarded_host="x-8188.proxy.example")
    assert admitted(client, host="webui:7860", origin="https://ui.example", sec_fetch_site="same-origin")
    # A page may make up every header but Host and those that begin with Sec-.
    local = {"host": "localhost:7860", "x_forwarded_host": "localhost:3000"}
    assert not admitted(client, **local, origin="http://localhost:3000", sec_fetch_site="same-site")
    # nginx's $host has no port.
    assert admitted(client, origin="http://ui.example:8080", host="ui.example")
    assert not admitted(client, origin="http://ui.example:8080", host="ui.example:7860")


def test_the_webuis_own_flags_allow_other_sites(tmp_path):
    origin = {"origin": "https://front.example", "sec_fetch_site": "cross-site"}
    assert admitted(client_of(tmp_path / "1", cors_allow_origins="http://a,https://front.example"), **origin)
    assert admitted(client_of(tmp_path / "2", cors_allow_origins="*"), **origin)
    assert admitted(client_of(tmp_path / "3", cors_allow_origins_regex=r"https://.*\.example"), **origin)
    assert not admitted(client_of(tmp_path / "4", cors_allow_origins="https://front.example.org"), **origin)
    assert not admitted(client_of(tmp_path / "5", cors_allow_origins_regex="https://front"), **origin)


def test_behind_a_login_the_routes_are_not_open_to_the_network(tmp_path):
    told = client_of(tmp_path / "1", gradio_auth="a:b").get("/imagereward/v1/version")
    assert (told.status_code, told.json()["detail"]) == (401, "this page is not logged in: load it again")
    assert "www-authenticate" not in told.headers, "no account could answer the browser's own dialogue"
    both = client_of(tmp_path / "3", gradio_auth="a:b", api=True, api_auth="c:d")
    assert both.get("/imagereward/v1/version").headers["www-authenticate"].startswith("Basic")
    opened = client_of(tmp_path / "2", gradio_auth="a:b", api=True)  # as the WebUI's own API is
    assert opened.get("/imagereward/v1/version").status_code == 200
