"""What somebody finds who opens the demo for the first time."""

from __future__ import annotations

import json

import pytest

from demo import start
from demo.training import QUICK, REWARD, WITNESS
from demo.world import grammar
from demo.world.configs import NAME
from imagereward_ext.hosts import Checkpoint
from imagereward_ext.refl.config import TrainingConfig
from imagereward_ext.settings import schema


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


def test_the_refl_tab_begins_with_a_training_of_the_demos_size(data, tmp_path):
    """The host fills controls in by their labels: each of ours is the label of the field that is meant."""
    gr = pytest.importorskip("gradio")
    from imagereward_ext.webui.refl_tab import tab
    from imagereward_ext.webui.refl_tab.training import TrainingService
    from tests.webui.services import make_service

    service = make_service(tmp_path)
    service.host.checkpoints.loaded = Checkpoint(start.MODELS / f"{NAME}.safetensors")
    service.host.options |= json.loads((data / "config.json").read_text())
    with gr.Blocks() as blocks:
        tab.build(service, TrainingService(service, tmp_path / "locks")).render()
    parts = {part.elem_id: part for part in blocks.blocks.values() if getattr(part, "elem_id", None)}
    given = json.loads((data / "ui-config.json").read_text())

    def field(name):
        return given[f"imagereward_refl/{parts[f'imagereward-refl-{name}'].label}/value"]

    for name in schema(TrainingConfig):
        if name in QUICK and name != "cpu":  # which the host decides
            assert field(name) == QUICK[name], name
    assert (field("prompt_source"), field("prompt_file")) == ("from a file", start.PROMPTS)
    assert (parts["imagereward-refl-scorers"].value, field("judge")) == ([REWARD], WITNESS)
    assert field("compare") == start.REFL["Prompts to compare before and after"]
    assert field("compare_guidance") == start.REFL["Guidance of the comparison"]


def test_without_the_second_scorer_nothing_judges(tmp_path, monkeypatch):
    known = tmp_path / "scorers" / REWARD / "config.json"
    known.parent.mkdir(parents=True)
    known.touch()
    monkeypatch.setenv("IMAGEREWARD_HOME", str(tmp_path / "scorers"))
    start._first_start(tmp_path)
    assert json.loads((tmp_path / "ui-config.json").read_text())["imagereward_refl/Judge/value"] == ""
