"""What somebody finds who opens the demo for the first time."""

from __future__ import annotations

import json

import pytest

from demo import start
from demo.training import QUICK, REWARD, WITNESS
from demo.world import grammar
from imagereward_ext.refl.config import TrainingConfig
from imagereward_ext.settings import schema
from tests.hosting import ROOT, Client, running_host


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEREWARD_HOME", str(start.MODELS))
    start._first_start(tmp_path)
    return tmp_path


def test_the_first_start_writes_prompts_that_the_models_know(data):
    prompts = (data / "models" / "ImageReward" / "prompts" / start.PROMPTS).read_text().splitlines()
    assert len(set(prompts)) == start.PROMPT_COUNT
    for prompt in prompts:
        assert grammar.parse(prompt) is not None


def test_later_starts_change_nothing(data):
    (data / "ui-config.json").write_text("{}")
    start._first_start(data)
    assert json.loads((data / "ui-config.json").read_text()) == {}


def test_the_refl_tab_begins_with_a_training_of_the_demos_size(data):
    pytest.importorskip("gradio", minversion="4.0", reason="the demo host speaks gradio 4")
    pytest.importorskip("diffusers", reason="the demo host draws with diffusers")
    with running_host(data, start.MODELS, [ROOT]) as host:
        parts = [part["props"] for part in Client(host.url).get("/config")["components"]]
    found = {part["elem_id"]: part["value"] for part in parts if part.get("elem_id") and "value" in part}

    def field(name):
        return found[f"imagereward-refl-{name}"]

    for name in schema(TrainingConfig):
        if name in QUICK and name != "cpu":  # which the host decides
            assert field(name) == QUICK[name], name
    assert (field("prompt_source"), field("prompt_file")) == ("from a file", start.PROMPTS)
    assert (field("scorers"), field("judge")) == ([REWARD], WITNESS)
    assert field("compare") == start.REFL["Prompts to compare before and after"]
    assert field("compare_guidance") == start.REFL["Guidance of the comparison"]


def test_without_the_second_scorer_nothing_judges(tmp_path, monkeypatch):
    known = tmp_path / "scorers" / REWARD / "config.json"
    known.parent.mkdir(parents=True)
    known.touch()
    monkeypatch.setenv("IMAGEREWARD_HOME", str(tmp_path / "scorers"))
    start._first_start(tmp_path)
    assert json.loads((tmp_path / "ui-config.json").read_text())["imagereward_refl/Judge/value"] == ""
