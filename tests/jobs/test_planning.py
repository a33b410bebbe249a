"""The plan from a process of its own."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from imagereward_ext.jobs import planning, process
from imagereward_ext.jobs.order import JobError
from imagereward_ext.jobs.planning import Planner
from tests.refl.world import tiny_config
from tests.tiny import make_tiny_scorer_folder

pytest.importorskip("peft")


def test_a_plan_needs_no_file_of_prompts_and_leaves_none(tmp_path, monkeypatch):
    scorers = tmp_path / "scorers"
    make_tiny_scorer_folder(scorers / "tiny")
    config = asdict(tiny_config(tmp_path, scorers="tiny")) | {
        "prompts": str(tmp_path / "runs/new/prompts.json")
    }
    before = sorted(tmp_path.rglob("*"))
    planner = Planner()
    plan = planner.plan(config, ["a cat", "a dog", "a fox"], "", "cpu", str(scorers))
    assert plan["trained"] > 0
    assert plan["notes"][0].split() == ["prompts", "3"]
    assert sorted(tmp_path.rglob("*")) == before
    monkeypatch.setattr(
        process, "start_planner", lambda *arguments: pytest.fail("the same question was asked again")
    )
    assert planner.plan(config, ["a cat", "a dog", "a fox"], "", "cpu", str(scorers)) == plan


def test_what_is_wrong_with_a_plan_is_one_line(tmp_path):
    config = asdict(tiny_config(tmp_path)) | {"checkpoint": str(tmp_path / "none.safetensors")}
    answer = planning._answer(config, ["a cat", "a dog"], "")
    with pytest.raises(JobError, match=r"none.safetensors"):
        planning._read(f"what a library prints\n{json.dumps(answer)}\n", "")
