"""An extension of which everything is broken costs a host nothing but the words that say so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hosting import RECORDER, ROOT

BROKEN = Path(__file__).parent / "broken_extension"
BUILD = """
from modules import scripts, shared, ui
from modules.initialize import initialize_settings
import fastapi, threading, webui
from modules.api.api import Api

initialize_settings()
webui.load_extensions()
shared.demo = ui.create_ui()
api = Api(fastapi.FastAPI(), threading.Lock())
print(api.get_scripts_list()["txt2img"], [step.name for step in scripts.scripts_postproc.scripts])
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """Build page and API, as the host does before it serves them; no checkpoint is needed for that."""
    pytest.importorskip("gradio", minversion="4.0", reason="the demo host speaks gradio 4")
    data = tmp_path_factory.mktemp("webui")
    command = [sys.executable, "-c", BUILD, "--data-dir", str(data), "--use-cpu", "all"]
    command += ["--extension", str(BROKEN), "--extension", str(RECORDER)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "demo" / "host")}
    return subprocess.run(command, cwd=data, env=environment, capture_output=True, text=True, timeout=600)


def test_the_host_goes_on_with_what_is_whole(built: subprocess.CompletedProcess[str]) -> None:
    assert built.returncode == 0, built.stderr
    assert built.stdout.splitlines()[-1] == "['hook recorder', 'two jobs'] [None, 'Upscale']"


@pytest.mark.parametrize(
    "words",
    [
        "Error reading {}/metadata.ini",
        "Error running preload() of {}",
        "Error loading script: not_executable.py",
        "Error making the script of {}/scripts/untitled.py",
        "Error making the script of {}/scripts/unmakeable.py",
        "Error making the script of {}/scripts/unshowable.py",
        "Error making the script of {}/scripts/unmakeable_step.py",
        "Error creating UI of {}/scripts/without_controls.py",
    ],
)
def test_each_part_that_is_broken_is_named(built: subprocess.CompletedProcess[str], words: str) -> None:
    assert words.format(BROKEN) in built.stderr


def test_the_base_classes_that_a_script_imports_are_no_scripts(
    built: subprocess.CompletedProcess[str],
) -> None:
    assert "imports_the_bases.py" not in built.stderr
