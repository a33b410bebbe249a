import importlib
import inspect
import os
import re
import statistics
import subprocess
import sys
import textwrap
from types import ModuleType

import pytest

from imagereward_ext import hosts
from imagereward_ext.errors import UsageError
from tests.hosting import ROOT
from tests.hosts.fake_host import FakeHost


class AnyModule(ModuleType):
    """A module of a WebUI, for imports alone."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return "."


@pytest.fixture
def some_webui(monkeypatch, tmp_path):
    """Let a WebUI of some packages be here, and the new host of docs/hosts.md be known."""
    for name in ("modules", "modules.paths_internal"):
        monkeypatch.setitem(sys.modules, name, AnyModule(name))
    (newcomer,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "hosts.md").read_text(encoding="utf-8"), re.DOTALL
    )
    (tmp_path / "newcomer.py").write_text(newcomer, encoding="utf-8")
    monkeypatch.setattr(hosts, "__path__", [*hosts.__path__, str(tmp_path)])
    loaded = set(sys.modules)
    yield lambda *packages: monkeypatch.setattr(
        hosts, "find_spec", lambda name: name if name in ("modules", "modules.shared", *packages) else None
    )
    hosts.current_host.cache_clear()
    for name in set(sys.modules) - loaded:
        if name.startswith("imagereward_ext.hosts."):
            del sys.modules[name]
            delattr(hosts, name.rpartition(".")[2])


@pytest.mark.parametrize(
    ("packages", "expected"),
    [
        ((), "AUTOMATIC1111"),
        (("ldm_patched",), "AUTOMATIC1111"),
        (("modules_forge",), "Forge"),
        (("modules_forge", "ldm_patched"), "reForge"),
        (("modules_forge", "newcomers_own"), "a new host"),
    ],
)
def test_hosts_are_told_apart_by_their_packages(some_webui, packages, expected):
    some_webui(*packages)
    assert hosts.current_host().name == expected


def test_a_new_host_brings_its_own_checkpoints_and_inherits_the_rest(some_webui, monkeypatch):
    some_webui("modules_forge", "newcomers_own")
    asked = []
    for name in ("newcomers_own", "newcomers_own.loading"):
        monkeypatch.setitem(sys.modules, name, AnyModule(name))
    sys.modules["newcomers_own"].loading = sys.modules["newcomers_own.loading"]
    sys.modules["newcomers_own.loading"].load_again = lambda: asked.append("load again")
    newcomer = hosts.current_host()
    newcomer.checkpoints.restore()
    assert asked == ["load again"]
    newcomer.checkpoints.load_when_asked()  # Forge's: nothing to do
    forge = next(host for host in hosts.known_hosts() if host.name == "Forge")()
    assert type(newcomer.images) is type(forge.images) and newcomer.jobs is forge.jobs


def test_the_host_of_the_tests_is_called_like_a_real_one(some_webui, tmp_path):
    """What stands on the seam is tested with a fake one, which must not be another."""

    def calls(thing):
        methods = inspect.getmembers(thing, inspect.ismethod)
        return {name: str(inspect.signature(method)) for name, method in methods if not name.startswith("_")}

    some_webui()
    real, fake = hosts.current_host(), FakeHost(tmp_path)
    assert calls(real) == calls(fake)
    for part in ("checkpoints", "images", "jobs"):
        assert calls(getattr(real, part)) == calls(getattr(fake, part)) != {}


def test_outside_a_webui_the_error_says_so():
    hosts.current_host.cache_clear()
    with pytest.raises(UsageError, match="needs a running Stable Diffusion WebUI"):
        hosts.current_host()


def test_importing_the_seam_loads_no_host():
    importlib.import_module("imagereward_ext.hosts")
    loaded = {name for name in sys.modules if name.startswith("imagereward_ext.hosts.")}
    assert loaded == {"imagereward_ext.hosts.base"}


START = """
import importlib.util, os, sys, time
sys.argv = ["launch.py", "--skip-install", "--data-dir", sys.argv[1]]
sys.path.insert(0, {host!r})
start = time.process_time()
import gradio, torch, fastapi
from modules import shared, scripts, images, sd_models, processing, script_callbacks, scripts_postprocessing, sd_vae
host = time.process_time() - start
for name in [n for n in sys.modules if n.split(".")[0] in ("transformers", "diffusers", "peft")]:
    del sys.modules[name]
sys.path.insert(0, {root!r})
for _ in range(4):  # each time in a process that has the host and nothing of ours
    child = os.fork()
    if not child:
        break
    os.waitpid(child, 0)
else:
    sys.exit()
before = set(sys.modules)
start = time.process_time()
spec = importlib.util.spec_from_file_location("imagereward", {script!r})  # as the hosts do
spec.loader.exec_module(importlib.util.module_from_spec(spec))
seconds = time.process_time() - start
new = sorted({{name.split(".")[0] for name in set(sys.modules) - before}})
print(f"{{seconds:.4f}}", f"{{host:.4f}}", *new, flush=True)
"""


def test_executing_the_script_loads_no_model_library_and_takes_no_time(tmp_path):
    """Run with -s for the figures of docs/hosts.md."""
    pytest.importorskip("gradio", minversion="4.0", reason="the demo host speaks gradio 4")
    pytest.importorskip("diffusers", reason="the demo host draws with diffusers")
    code = textwrap.dedent(START).format(
        host=str(ROOT / "demo" / "host"), root=str(ROOT), script=str(ROOT / "scripts" / "imagereward.py")
    )
    # A host writes byte code on its first start; a WebUI that has run once does not compile again.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    ours, hosts_own = [], []
    command = [sys.executable, "-c", code, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    for line in run.stdout.splitlines():
        seconds, host_seconds, *new = line.split()
        ours.append(float(seconds))
        hosts_own.append(float(host_seconds))
        assert not {"transformers", "diffusers", "peft", "accelerate", "torch", "torchvision"} & set(new), new
        assert "imagereward_ext" in new
    assert len(ours) == 4
    least, median = (1000 * pick(ours) for pick in (min, statistics.median))
    share = min(own / host for own, host in zip(ours, hosts_own, strict=True))
    print(
        f"scripts/imagereward.py: least {least:.0f} ms, median {median:.0f} ms of CPU, {share:.1%} of the host's"
    )
    # The same process imports the host: a busy machine slows both, so that the share says what the clock cannot.
    assert share < 0.015


def test_install_installs_nothing_and_says_nothing(tmp_path):
    def versions():
        code = "from importlib.metadata import distributions as d; print(sorted((x.name, x.version) for x in d()))"
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    before = versions()
    run = subprocess.run(
        [sys.executable, str(ROOT / "install.py")], capture_output=True, text=True, cwd=tmp_path
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert versions() == before


def test_install_names_what_is_missing_in_one_line_and_honours_skip_install(tmp_path):
    code = (
        "import importlib.util, runpy, sys\n"
        "real = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *a: None if name == 'safetensors' else real(name, *a)\n"
        f"sys.argv = ['install.py', *sys.argv[1:]]\nrunpy.run_path({str(ROOT / 'install.py')!r})"
    )

    def output(*arguments, **environment):
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, env=environment or None
        ).stdout

    assert output().count("\n") == 1 and "safetensors not found" in output()
    assert output("--skip-install") == ""
    assert output(COMMANDLINE_ARGS="--api --skip-install", PATH="") == ""


def test_preload_adds_our_flags():
    import argparse
    import runpy

    parser = argparse.ArgumentParser()
    runpy.run_path(str(ROOT / "preload.py"))["preload"](parser)
    arguments = parser.parse_args(
        ["--imagereward-dir", "/m", "--imagereward-device", "cpu", "--imagereward-no-download"]
    )
    assert (arguments.imagereward_dir, arguments.imagereward_device) == ("/m", "cpu")
    assert (
        arguments.imagereward_no_download is True and parser.parse_args([]).imagereward_no_download is False
    )
