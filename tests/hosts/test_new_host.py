"""One more host is one file beside the others: it is chosen by its packages, and images are scored through it."""

import importlib
import sys

import pytest

from imagereward_ext import hosts
from imagereward_ext.webui import service as service_module
from imagereward_ext.webui.job.report import ANSWER
from tests.tiny import make_tiny_scorer_folder
from tests.webui.test_scoring import make, make_job

ONE_FILE = """
from pathlib import Path

from tests.hosts.fake_host import FakeHost


class Newcomer(FakeHost):
    name = "a new host"
    packages = ("modules_forge", "newcomers_own")

    def __init__(self):
        import newcomers_own

        super().__init__(Path(newcomers_own.FOLDER))
        self.options["imagereward_scorer"] = "tiny"
"""
ANYTHING = "def __getattr__(name):\n    if name.startswith('__'):\n        raise AttributeError(name)\n    return '.'\n"


@pytest.fixture
def newcomer(tmp_path, monkeypatch):
    """Add the file, and let the packages of a WebUI be importable; return what makes the newcomer's own so, too."""
    webui = tmp_path / "webui"
    for file in ("modules/__init__", "modules/shared", "modules/paths_internal", "modules_forge/__init__"):
        path = webui / f"{file}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(ANYTHING)
    beside = tmp_path / "beside"
    beside.mkdir()
    (beside / "newcomer.py").write_text(ONE_FILE)
    monkeypatch.syspath_prepend(str(webui))
    monkeypatch.setattr(hosts, "__path__", [*hosts.__path__, str(beside)])
    loaded = set(sys.modules)

    def install():
        (webui / "newcomers_own.py").write_text(f"FOLDER = {str(tmp_path / 'data')!r}\n")
        importlib.invalidate_caches()

    yield install
    hosts.current_host.cache_clear()
    service_module.service.cache_clear()
    for name in set(sys.modules) - loaded:
        if name.startswith("imagereward_ext.hosts."):
            delattr(hosts, name.rpartition(".")[2])
        if name.split(".")[0] in ("modules", "modules_forge", "newcomers_own") or hosts.__name__ in name:
            del sys.modules[name]


def test_it_is_chosen_where_its_packages_are(newcomer):
    assert hosts.which_host().name == "Forge"
    newcomer()
    assert hosts.which_host().name == hosts.current_host().name == "a new host"


def test_an_image_is_scored_through_it(newcomer, tmp_path):
    newcomer()
    make_tiny_scorer_folder(tmp_path / "data" / "models" / "ImageReward" / "tiny", label="ImageReward")
    service = service_module.service()
    assert service.host.name == "a new host"
    result = make(make_job(["a red fox"]), service)
    (expected,) = service.score(result.images, ["a red fox"], service.wish())
    assert result.extra_generation_params[ANSWER]["scores"] == [round(expected.value, 4)]
