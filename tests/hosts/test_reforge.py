"""What goes through reForge's one thread, on the demo host's modules and a thread like reForge's."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.hosting import ROOT

THREAD = """
import sys
from types import ModuleType, SimpleNamespace
sys.argv = ["launch.py", "--skip-install", "--data-dir", sys.argv[1]]
sys.path[:0] = [{root!r}, {host!r}]
modules_forge, main_thread = ModuleType("modules_forge"), ModuleType("modules_forge.main_thread")
sys.modules |= {{"modules_forge": modules_forge, "modules_forge.main_thread": main_thread}}
modules_forge.main_thread = main_thread
main_thread.finished_list, main_thread.last_task = [], None

def run_and_wait_result(func, *arguments, **more):
    try:
        answer = func(*arguments, **more)
    except Exception as error:
        answer = print(error)
    main_thread.last_task = SimpleNamespace(result=answer)
    return answer

main_thread.run_and_wait_result = run_and_wait_result
from imagereward_ext.errors import UsageError
from imagereward_ext.hosts.reforge import forget_results, hand_refusals_on
"""

REFUSE = """
def generate(words, error=None):
    if error is not None:
        raise error
    return words

hand_refusals_on()
once = main_thread.run_and_wait_result
hand_refusals_on()
assert main_thread.run_and_wait_result is once
assert once(generate, "an image") == once(generate, words="an image") == "an image"
assert once(generate, "", error=ValueError("the host's own")) is None
try:
    once(generate, "", error=UsageError("a training has the memory"))
except UsageError as error:
    assert str(error) == "a training has the memory"
else:
    raise AssertionError("the page would tell of a NoneType")
"""

FORGET = """
import gc, weakref
import torch
checkpoint = torch.nn.Linear(1, 1)
loaded = weakref.ref(checkpoint)
images = SimpleNamespace(result="for somebody who waits")
main_thread.finished_list += [SimpleNamespace(result=checkpoint), images]
main_thread.run_and_wait_result(lambda: checkpoint)
del checkpoint
gc.collect()
assert loaded() is not None
forget_results()
gc.collect()
assert loaded() is None
assert images.result == "for somebody who waits"
"""


def test_the_one_thread_of_reforge_hands_refusals_on_and_keeps_no_checkpoint(tmp_path):
    pytest.importorskip("gradio", minversion="4.0", reason="the demo host speaks gradio 4")
    pytest.importorskip("diffusers", reason="the demo host draws with diffusers")
    code = THREAD.format(root=str(ROOT), host=str(ROOT / "demo" / "host")) + REFUSE + FORGET
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
