"""`python -m demo` as a person types it: help, and mistakes that end in a line."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from tests.hosting import ROOT

pytest.importorskip("gradio", minversion="4.0", reason="the demo host speaks gradio 4")


@pytest.fixture
def demo(tmp_path):
    """Run the demo with these arguments; nothing of it gets as far as a model."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "demo", "--data-dir", str(tmp_path), "--skip-install", *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)

    return run


def test_the_help_names_both_ways_to_start(demo):
    done = demo("--help")
    assert done.returncode == 0
    assert "demo --once PROMPT" in done.stdout
    assert "--port" in done.stdout
    assert "launch.py" not in done.stdout


def test_the_help_of_one_job_names_its_options(demo):
    done = demo("--once", "--help")
    assert done.returncode == 0
    assert all(f"--{option}" in done.stdout for option in ("once", "count", "limit", "best", "seed", "steps"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--nope"], "demo: error: unrecognized arguments: --nope"),
        (["--once", "a red circle", "--nope"], "demo: error: unrecognized arguments: --nope"),
        (["--once"], "demo: error: --once takes a prompt"),
        (["--once", "a red circle", "--count", "0"], "--count: '0' is not a whole number of at least 1"),
        (["--once", "a red circle", "--steps", "-1"], "--steps: '-1' is not a whole number of at least 1"),
    ],
)
def test_wrong_usage_is_told_by_the_name_that_was_typed(demo, arguments, words):
    done = demo(*arguments)
    assert done.returncode == 2
    assert words in done.stderr.splitlines()[-1]
    assert "launch.py" not in done.stderr


def test_a_taken_port_is_one_line(demo):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = demo("--port", str(port))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"port {port} cannot be used or is taken; choose one with --port"
    assert "Traceback" not in done.stderr
    assert "Loaded" not in done.stdout
