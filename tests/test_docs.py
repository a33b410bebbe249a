"""What the documents and the runner's help say is what the code has."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from imagereward_ext.cli import COMMANDS
from imagereward_ext.webui.options import Settings, read_request

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run", ROOT / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def spelled(default: Any) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    return str(default) or "empty"


def test_every_setting_stands_in_the_docs_with_its_label_and_default() -> None:
    page = (ROOT / "docs" / "hosts.md").read_text(encoding="utf-8")
    for f in dataclasses.fields(Settings):
        assert f"| `{f.name}` | {f.label} | {spelled(f.default)} |" in page


def test_the_runner_lists_every_command(runner: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.main(["--help"]) == 0
    words = re.findall(r"[a-z-]+", capsys.readouterr().out)
    assert {*COMMANDS, "demo", "test", "check", "bench"} <= set(words)


@pytest.mark.parametrize("version", [(3, 9, 18), (3, 13, 0)])
def test_a_python_without_the_pinned_packages_is_told(
    runner: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    version: tuple[int, ...],
) -> None:
    monkeypatch.setattr(runner, "environment", lambda name: pytest.fail("an environment was made"))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "version_info", version)
        assert runner.main(["score", "a.png"]) == 2
    told = f"Python 3.10 to 3.12 is needed; this is 3.{version[1]}. Try python3.12"
    assert told in capsys.readouterr().err


def test_the_readme_names_the_pythons_the_runner_takes(runner: ModuleType) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    versions = range(runner.OLDEST_PYTHON[1], runner.NEWEST_PYTHON[1] + 1)
    *others, last = (f"3.{minor}" for minor in versions)
    assert f"Python ({', '.join(others)} or {last})" in readme


@pytest.mark.skipif(shutil.which("bash") is None, reason="the examples are written for bash")
def test_the_api_examples_are_whole_and_made_for_the_demo() -> None:
    page = (ROOT / "docs" / "hosts.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    shown = r"""curl() { printf '%s\037' "$@"; printf '\036'; }"""
    done = subprocess.run(
        ["bash", "-euc", f"{shown}\n{block}"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    calls = [call.split("\x1f") for call in done.stdout.split("\x1e")[:-1]]
    assert len(calls) == 5
    assert all(any(word.startswith("http://127.0.0.1:7860/") for word in call) for call in calls)
    whole, script = (json.loads(call[call.index("-d") + 1]) for call in calls if "-d" in call)
    for body in (whole, script):
        assert (body["width"], body["height"], body["cfg_scale"]) == (64, 64, 1)
    for options in (whole["alwayson_scripts"]["ImageReward scoring"]["args"], script["script_args"]):
        assert read_request(options[0]).problems == ()
