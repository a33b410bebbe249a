"""How tests share the workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import WEBUIS


def test_all_that_share_a_webui_are_known_to_do_so(request: pytest.FixtureRequest) -> None:
    for item in request.session.items:
        wanted = {name.replace("client_of_host", "demo_host") for name in item.fixturenames} & WEBUIS.keys()
        file = f"{item.path.parent.name}/{item.path.stem}"
        assert all(file in WEBUIS[webui] for webui in wanted), f"{file} starts a WebUI of its own: {wanted}"


def test_the_files_that_share_a_webui_are_there() -> None:
    tests = Path(__file__).parent
    assert all((tests / f"{file}.py").is_file() for files in WEBUIS.values() for file in files)
