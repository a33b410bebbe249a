"""The ReFL tab without a browser: fields, prompts, memory, and the panels under the installed gradio."""

from __future__ import annotations

import errno
import html
import json
import os
import re
import threading
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

gr = pytest.importorskip("gradio")

from imagereward_ext.errors import ImageRewardError, UsageError  # noqa: E402
from imagereward_ext.hosts import Checkpoint  # noqa: E402
from imagereward_ext.jobs.order import JobError, Order  # noqa: E402
from imagereward_ext.jobs.planning import SupersededError  # noqa: E402
from imagereward_ext.jobs.queue import Queue  # noqa: E402
from imagereward_ext.jobs.runs import Run  # noqa: E402
from imagereward_ext.refl.config import TrainingConfig, from_mapping  # noqa: E402
from imagereward_ext.settings import schema  # noqa: E402
from imagereward_ext.webui.page import panels, png_info  # noqa: E402
from imagereward_ext.webui.page.widgets import help_text  # noqa: E402
from imagereward_ext.webui.refl_tab import form, handover, health, prompt_sources, tab  # noqa: E402
from imagereward_ext.webui.refl_tab import training as training_module  # noqa: E402
from imagereward_ext.webui.refl_tab.request import parse  # noqa: E402
from imagereward_ext.webui.refl_tab.training import TrainingService  # noqa: E402
from tests.tiny import make_tiny_scorer_folder, picture  # noqa: E402


@pytest.fixture
def service(service, tmp_path):
    checkpoint = tmp_path / "models" / "model.safetensors"
    checkpoint.touch()
    service.host.checkpoints.loaded = Checkpoint(checkpoint)
    return service


@pytest.fixture
def training(service, tmp_path, monkeypatch):
    training = TrainingService(service, tmp_path / "locks")
    monkeypatch.setattr(training.packages, "missing", list)
    monkeypatch.setattr(training_module, "training_service", lambda: training)
    return training


def config_of(training, given):
    return training._config(parse(given, training.choices))


def typed(**values):
    return {
        "prompt_source": "typed below",
        "prompt_text": "a cat\na dog",
        "scorers": "tiny",
        "name": "run",
    } | values


# ---- the panel


def built(service, training):
    with gr.Blocks() as blocks:
        tab.build(service, training).render()
    return blocks


def test_the_tab_builds_with_every_setting_of_the_engine_once(service, training):
    blocks = built(service, training)
    by_id = [getattr(block, "elem_id", None) for block in blocks.blocks.values()]
    for name in form.fields():
        assert by_id.count(f"imagereward-refl-{name}") == 1, name
    widgets = {getattr(block, "elem_id", None): block for block in blocks.blocks.values()}
    for setting in [one for group in form.advanced().values() for one in group]:
        widget = widgets[f"imagereward-refl-{setting.name}"]
        assert (widget.label, widget.value) == (setting.label, setting.default)
    blocks.get_config_file()


def test_what_is_of_today_does_not_go_into_the_hosts_defaults(service, training):
    """AUTOMATIC1111 writes every component's first value into ui-config.json, and begins with it ever after."""
    widgets = {getattr(block, "elem_id", None): block for block in built(service, training).blocks.values()}
    for name in ("checkpoint", "name", "prompt_file"):
        assert widgets[f"imagereward-refl-{name}"].do_not_save_to_config, name
    assert not hasattr(widgets["imagereward-refl-rank"], "do_not_save_to_config"), (
        "these may be anybody's own"
    )


def test_refresh_finds_what_came_since_the_page_was_made(training, tmp_path):
    scorers = tmp_path / "models" / "ImageReward"
    (scorers / "prompts").mkdir()
    (scorers / "prompts" / "mine.txt").write_text("one\ntwo\n")
    make_tiny_scorer_folder(scorers / "later")
    (training.trainer.runs.folder / "refl-1").mkdir(parents=True)
    (training.trainer.runs.folder / "refl-1" / "config.json").write_text("{}")
    checkpoints, files, scored, judges, name = tab._refreshed("refl-1", training)
    assert checkpoints["choices"] == [form.LOADED, "model.safetensors"]
    assert files["choices"] == ["mine.txt"]
    assert "later" in scored["choices"]
    assert judges["choices"] == ["", *scored["choices"]]
    assert name["value"] == "refl-2"
    assert tab._refreshed("mine", training)[-1] == gr.update(), "a name that somebody typed stays"


def test_building_loads_and_writes_nothing(service, training, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    for _ in range(3):
        built(service, training)
    assert sorted(tmp_path.rglob("*")) == before
    assert service.status().name == ""


def test_the_install_button_shows_only_when_something_is_missing(service, training, monkeypatch):
    def group(blocks):
        return next(
            b for b in blocks.blocks.values() if getattr(b, "elem_id", "") == "imagereward-refl-packages"
        )

    assert not group(built(service, training)).visible
    monkeypatch.setattr(training.packages, "missing", lambda: ["peft"])
    assert group(built(service, training)).visible
    with pytest.raises(UsageError, match="needs peft, which this WebUI does not have"):
        training.start(typed())


def test_handlers_show_errors_and_lose_nothing(training):
    message, name = tab._start(typed(rank=0), training)
    assert "must be between 1 and 1024" in message
    assert name == gr.update()
    problems = tab._problems(form.defaults() | typed(rank=0, guidance=99), training)
    assert "&quot;rank&quot;" in problems
    assert "&quot;guidance&quot;" in problems
    assert training.trainer.runs.list() == []


def test_what_is_said_of_a_waiting_run_is_only_said_while_it_waits(training, monkeypatch):
    monkeypatch.setattr(training.trainer, "start", lambda *given: Run("run", "waiting"))
    monkeypatch.setattr(training.trainer, "compare", lambda *given: Run("run", "waiting"))
    Order({"name": "run", "output": str(training.trainer.runs.folder)}).write()
    assert "data-run='run' data-while='waiting'" in tab._start(typed(), training)[0]
    assert "data-run='run' data-while='waiting comparing'" in tab._compare("run", typed(), training)


def problems(training, **values):
    shown = tab._problems(form.defaults() | typed(**values), training)
    return json.loads(html.unescape(shown.partition('data-problems="')[2].partition('"')[0]))


@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        ({"updates": 0}, "updates", "Updates is 0; it must be between 1 and 1000000"),
        ({"updates": None}, "updates", "Updates is empty; type a whole number"),
        (
            {"first_step": 30, "last_step": 12},
            "first_step",
            "First step is 30, after Last step 12: swap them",
        ),
        (
            {"steps": 15, "first_step": 5, "last_step": 15},
            "last_step",
            "Last step is 15, but 15 steps end at 14",
        ),
        ({"name": "a/b"}, "name", "'a/b' cannot be the name of a run"),
        ({"judge": "tiny"}, "judge", "tiny is also the reward"),
        ({"judge": "nobody"}, "judge", "there is no scorer 'nobody'"),
        ({"scorers": []}, "scorers", "choose at least one scorer"),
        ({"checkpoint": "x"}, "checkpoint", "there is no checkpoint 'x'"),
        ({"prompt_text": "one"}, "prompt_text", "holds 1 prompt"),
        ({"theme": "x", "prompt_source": "a built-in set"}, "theme", "no set of prompts 'x'"),
    ],
)
def test_what_is_wrong_is_told_beside_its_field_by_its_label(training, values, field, words):
    found = problems(training, **values)
    assert list(found) == [field]
    assert words in found[field]
    assert not re.search("[a-z]_[a-z]", found[field])


def test_without_problems_nothing_is_told(training):
    assert problems(training) == {}


def test_ranges_are_written_out():
    ranges = {name: help_text(setting) for name, setting in form.engine_settings().items()}
    assert ranges["updates"].endswith("(1 to 1000000).")
    assert ranges["seed"].endswith("(0 to 4294967295).")


def test_a_plan_of_the_same_words_is_new_to_the_page():
    assert tab._answered("2 hours") != tab._answered("2 hours")
    assert tab._answered(gr.update()) == gr.update()


# ---- fields


def test_every_setting_of_the_engine_is_a_field_or_filled_in_by_the_tab():
    fields = set(form.fields())
    assert set(schema(TrainingConfig)) - fields == {"prompts", "images", "vae", "output", "lora_dir", "cpu"}


def test_strengths_are_the_engines_defaults_and_around():
    defaults = {name: setting.default for name, setting in schema(TrainingConfig).items()}
    normal = form.strength_values("normal")
    assert normal == {key: defaults[key] for key in ("updates", "learning_rate")}
    gentle, strong = form.strength_values("gentle"), form.strength_values("strong")
    for key in normal:
        assert gentle[key] < normal[key] < strong[key]
    assert "50 updates at a learning rate of 0.0001" in form.strength_text("gentle", {})
    own = form.strength_text("gentle", {"updates": 7.0, "learning_rate": "5e-5"})
    assert own == "gentle, with your own numbers: 7 updates at a learning rate of 5e-05"
    assert form.strength_text("gentle", {"updates": "many"}) == form.strength_text("gentle", {})


def test_what_is_given_wins_over_the_strength_and_all_problems_are_told():
    values = form.completed({"strength": "strong", "updates": 7})
    assert values["updates"] == 7
    assert values["learning_rate"] == form.strength_values("strong")["learning_rate"]
    with pytest.raises(UsageError) as error:
        form.completed({"rank": 0, "rnak": 1, "steps": "many", "checkpoint": 5, "updates": 1.5})
    for words in (
        "no field 'rnak'",
        "between 1 and 1024",
        "'many'; type a whole number",
        "expected text",
        "whole number",
    ):
        assert words in str(error.value)


def test_widgets_numbers_and_lists_become_the_engines():
    values = form.completed(
        {"steps": 40.0, "guidance": 2, "learning_rate": "0,001", "scorers": ["a", "b:0.5"]}
    )
    assert (values["steps"], type(values["steps"])) == (40, int)
    assert (values["guidance"], type(values["guidance"])) == (2.0, float)
    assert values["learning_rate"] == 0.001
    assert values["scorers"] == "a,b:0.5"
    from_mapping(form.engine_values(values))


@pytest.mark.parametrize(("name", "value"), [("output", "/etc"), ("lora_dir", "/etc"), ("images", "/home"), ("vae", "x")])  # fmt: skip
def test_paths_cannot_be_given(name, value):
    with pytest.raises(UsageError, match="no field"):
        form.completed({name: value})


def test_a_preset_goes_out_and_in(training):
    values = form.completed(typed(rank=3, survive=True))
    text = form.to_preset(values)
    assert "name" not in json.loads(text)
    assert form.from_preset(text) == {name: value for name, value in values.items() if name != "name"}
    for bad, words in (("{", "no JSON"), ("[]", "JSON object"), ('{"rnak": 1}', "no field 'rnak'")):
        with pytest.raises(UsageError, match=words):
            form.from_preset(bad)


def loaded(training, **given):
    """Load a preset; return what is said, and the fields that it changes."""
    said, *updates = tab._load(json.dumps(given), training, form.fields())
    changes = {name: update for name, update in zip(form.fields(), updates, strict=True) if "value" in update}
    return said, {name: update["value"] for name, update in changes.items()}


def test_a_preset_changes_only_what_it_names(training):
    assert loaded(training, judge="", rank="4")[1] == {"judge": "", "rank": 4}
    assert loaded(training, name="other", checkpoint="")[1] == {}
    assert loaded(training, strength="gentle", updates=7)[1] == {
        "strength": "gentle", "updates": 7, "learning_rate": form.strength_values("gentle")["learning_rate"],
    }  # fmt: skip


def test_what_a_preset_names_and_is_not_here_is_told_and_left(training):
    given = {"judge": "gone", "scorers": "tiny,lost", "checkpoint": "away.ckpt", "prompt_file": "", "rank": 3}
    said, changes = loaded(training, **given)
    assert changes == {"rank": 3}
    for name in ("gone", "lost", "away.ckpt"):
        assert f"no {name} here" in said
    assert loaded(training, scorers="tiny")[1] == {"scorers": ["tiny"]}


# ---- the checkpoint


def test_the_checkpoint_is_the_one_that_is_loaded_when_the_run_is_started(training, service, tmp_path):
    page = form.defaults() | typed(checkpoint=form.LOADED)  # what the page was built with
    assert tab._names(training) == [form.LOADED, "model.safetensors"]
    assert Path(config_of(training, page)["checkpoint"]).name == "model.safetensors"
    other = tmp_path / "models" / "other.safetensors"
    other.touch()
    service.host.checkpoints.loaded = Checkpoint(other)
    assert Path(config_of(training, page)["checkpoint"]).name == "other.safetensors"


def test_every_path_given_to_the_training_is_whole(training, service, tmp_path, monkeypatch):
    """Its process works in the run's folder, and a WebUI's flags may name folders from where it was started."""
    monkeypatch.chdir(tmp_path)
    service.host.folder = Path()
    checkpoint = Path("models") / "model.safetensors"
    service.host.checkpoints.loaded = Checkpoint(checkpoint, vae=checkpoint)
    relative = TrainingService(service, tmp_path / "locks")
    config = config_of(relative, typed())
    for name in ("checkpoint", "vae", "prompts", "output", "lora_dir"):
        assert Path(config[name]).is_absolute(), name
    monkeypatch.setattr(relative.packages, "missing", list)
    monkeypatch.setattr(relative.trainer, "start", lambda order, files: order)
    assert Path(relative.start(typed()).scorers).is_absolute()


# ---- the comparison


def numbered(count):
    return [f"prompt {number}" for number in range(count)]


@pytest.mark.parametrize(("count", "held"), [(2, 0), (29, 0), (30, 10), (240, 24), (2000, 100)])
def test_prompts_for_the_comparison_are_not_trained_on(count, held):
    trained, kept = prompt_sources.hold_out(numbered(count))
    assert len(kept) == held
    assert sorted(trained + kept) == sorted(numbered(count))
    assert not held or kept[-1] > kept[0], "from all over the list"


def test_a_prompt_that_stands_twice_is_held_out_twice():
    trained, kept = prompt_sources.hold_out(numbered(40) * 2)
    assert (len(trained), len(kept)) == (60, 10)
    assert not set(trained) & set(kept)
    assert prompt_sources.hold_out(numbered(20) * 2) == (numbered(20) * 2, [])


def ordered(training, monkeypatch, **values):
    monkeypatch.setattr(training.trainer, "start", lambda order, files: (order, files))
    order, files = training.start(typed(**values))
    assert not order.folder.exists(), "the queue writes them, when it has seen that the name is free"
    names = [Path(path).name for path in (order.config["prompts"], order.compare_prompts)]
    return [json.loads(files[name]) if name else [] for name in names]


def test_a_training_leaves_the_prompts_of_its_comparison_out(training, monkeypatch):
    many = {"prompt_text": "\n".join(numbered(40))}
    trained, compared = ordered(training, monkeypatch, **many)
    assert (len(trained), len(compared)) == (30, 10)
    assert not set(trained) & set(compared)
    assert ordered(training, monkeypatch, **many, compare=0) == [numbered(40), []]
    assert ordered(training, monkeypatch) == [["a cat", "a dog"], []]
    monkeypatch.setattr(training._planner, "plan", lambda *arguments: PLAN)
    assert training.plan(typed(**many))["notes"] == [
        "held out             10 more prompts, for the comparison afterwards"
    ]
    assert training.plan(typed())["notes"] == []


@pytest.fixture
def compared(training, tmp_path):
    """Report a run trained on the first 30 of 60 prompts; says what the report of these prompts tells."""
    folder = training.trainer.runs.folder / "run"
    (folder / "comparison").mkdir(parents=True)
    trained = tmp_path / "trained.txt"
    trained.write_text("\n".join(numbered(30)))

    def report(prompts, weight=0.8, low=0.6, known=True, found=None):
        config = {"prompts": str(trained)} if known else {}
        (folder / "config.json").write_text(json.dumps({"config": config}))
        rate = {"value": 0.7, "low": low, "high": 0.9}
        candidates = {"base": {"mean": {"tiny": 0}, "difference": {}, "win_rate": {}},
                      "run x 0.8": {"mean": {"tiny": 1}, "difference": {"tiny": rate}, "win_rate": {"tiny": rate}}}  # fmt: skip
        content = {"recommended": {"run": weight}, "candidates": candidates, "prompts": prompts}
        if found is not None:  # what versions before did not write
            gain = {"value": 0.31, "low": 0.12, "high": 0.5}
            content |= {
                "findings": {"run": {"verdict": found, "weight": 0.8, "gain": gain}},
                "settings": {"sampling": {"guidance": 7.0}},
            }
        (folder / "comparison" / "comparison.json").write_text(json.dumps(content))
        return training.views.report("run")

    return report


def test_the_report_says_by_which_prompts_it_judges(compared):
    told = compared(numbered(60)[-12:])
    assert told["recommended"] == 0.8
    assert told["advice"] == (
        "Recommended weight: 0.8 (12 prompts, none of them trained on, same seeds before and after)."
    )
    assert "12 prompts, all of them trained on (others may gain less)," in compared(numbered(12))["advice"]
    assert "12 prompts, 2 of them trained on" in compared(numbered(40)[-12:])["advice"]
    assert "(12 prompts, same seeds" in compared(numbered(12), known=False)["advice"]
    assert "It may be chance" in compared(numbered(12), low=0.4)["advice"]
    assert compared(numbered(12), weight=None)["advice"].startswith("No weight that was tried beats")


def test_the_report_says_better_no_difference_or_worse_for_the_users_settings(compared):
    told = compared(numbered(12), known=False, found="better")["advice"]
    assert told == (
        "Better, +0.31 [+0.12, +0.50] spreads of the scorers. "
        "Recommended weight: 0.8 (12 prompts, guidance 7, same seeds before and after)."
    )
    nothing = compared(numbered(12), weight=None, known=False, found="no difference")
    assert nothing["recommended"] is None
    assert nothing["advice"].startswith(
        "No difference, +0.31 [+0.12, +0.50] spreads of the scorers. No weight is"
    )
    worse = compared(numbered(12), weight=None, found="worse")["advice"]
    assert worse.startswith("Worse, ") and "rather do not use it" in worse


def test_a_handful_of_prompts_recommends_nothing(compared):
    told = compared(numbered(4))
    assert told["recommended"] is None
    assert [row["win_rate"]["low"] for row in told["rows"] if row["win_rate"]] == [None]
    assert told["advice"].startswith(
        "Too few prompts to recommend a weight (4 prompts, all of them trained on"
    )
    assert compared(numbered(1) * 12)["recommended"] is None, "twelve images of one prompt"


def test_comparing_again_takes_what_was_not_trained_on_where_there_is_enough(compared, training, monkeypatch):
    compared(numbered(12))
    asked = {}
    monkeypatch.setattr(
        training.trainer,
        "compare",
        lambda name, prompts, count, guidance: asked.update(prompts=prompts, guidance=guidance),
    )

    def again(prompts):
        training.compare("run", typed(prompt_text="\n".join(prompts), compare_guidance="1,5"))
        return asked["prompts"]

    assert again(numbered(60)) == numbered(60)[30:]
    assert again(numbered(32)) == numbered(32)
    assert asked["guidance"] == 1.5


def test_the_comparison_after_a_training_takes_the_guidance_that_was_given(training, monkeypatch):
    monkeypatch.setattr(training.trainer, "start", lambda order, files: order)
    assert training.start(typed(compare_guidance=2)).compare_guidance == 2.0
    assert (
        form.problem("compare_guidance", 0)
        == "Guidance of the comparison is 0.0; it must be between 1 and 30"
    )


# ---- the plan


PLAN = {
    "trained": 1, "updates": 1, "images": 1, "fit": {"micro_batch": 1}, "width": 64, "height": 64, "memory": 9.0,
    "free": 24.0, "seconds": 1.0, "notes": [],
}  # fmt: skip


@pytest.mark.parametrize(("generate", "preset", "warned"), [(False, "12", False), (True, "8", True)])
def test_the_plan_counts_the_memory_that_the_webui_keeps(training, monkeypatch, generate, preset, warned):
    asked = {}

    def plan(config, *more):
        asked.update(config)
        return PLAN

    card = {
        "is_available": True,
        "mem_get_info": (8 * handover.GIGABYTE, 12 * handover.GIGABYTE),
        "memory_reserved": 4 * handover.GIGABYTE,
    }
    for name, value in card.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    monkeypatch.setattr(training, "device", lambda: "cuda:0")
    monkeypatch.setattr(training._planner, "plan", plan)
    told = training.plan(typed(generate=generate))
    assert asked["memory"] == preset
    assert bool(told["warning"]) == warned
    assert told["text"].startswith("model: 1 trained parameters")


def test_a_plan_that_a_newer_one_replaces_says_nothing(training, monkeypatch):
    def replaced(*arguments):
        raise SupersededError("a newer plan was asked for")

    monkeypatch.setattr(training._planner, "plan", replaced)
    assert tab._plan(typed(), training) == gr.update()


def test_what_the_engine_says_names_no_flag_of_the_command_line():
    """The tab shows the plan's notes and the engine's errors as they are."""
    from imagereward_ext.diffusion.model_config import known
    from imagereward_ext.refl.fit import fit
    from imagereward_ext.refl.plan import notes
    from imagereward_ext.training.states import writing

    told = list(notes(from_mapping({}), 2, None))
    assert any("judge" in line for line in told)
    with pytest.raises(ImageRewardError) as small:
        fit(from_mapping({}), known("sdxl"), 6.0, 1)
    with pytest.raises(ImageRewardError) as full, writing("the state"):
        raise OSError(errno.ENOSPC, "no space")
    assert [line for line in (*told, str(small.value), str(full.value)) if "--" in line] == []


# ---- prompts


def test_prompts_come_from_text_themes_files_and_the_users_images(training, service, tmp_path):
    assert training.choices.prompts(form.completed(typed())) == ["a cat", "a dog"]
    assert len(training.choices.prompts(form.completed({"theme": "animals"}))) == 48
    folder = tmp_path / "models" / "ImageReward" / "prompts"
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("one\ntwo\n")
    (folder / "picture.png").touch()
    assert list(training.choices.prompt_files()) == ["mine.txt"]
    chosen = {"prompt_source": "from a file", "prompt_file": "mine.txt"}
    assert training.choices.prompts(form.completed(chosen)) == ["one", "two"]


def test_the_users_images_give_their_prompts_once_and_plain(training, service, tmp_path):
    from imagereward_ext.metadata.containers import write_infotext

    outputs = tmp_path / "outputs"
    outputs.mkdir()
    service.host.options["outdir_txt2img_samples"] = str(outputs)
    for number, prompt in enumerate(("(a cat:1.3) <lora:x:1>", "a cat", "a dog")):
        picture(number).save(outputs / f"{number}.png")
        write_infotext(
            outputs / f"{number}.png", f"{prompt}\nSteps: 2, Sampler: Euler, Seed: {number}, Size: 64x64"
        )
    (outputs / "broken.png").write_bytes(b"no image")
    found = training.choices.prompts(form.completed({"prompt_source": "of my own images"}))
    assert sorted(found) == ["a cat", "a dog"]


def disk(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("name", ["run", "", "a/b"])
def test_checking_and_planning_leave_the_disk_as_it_was(training, tmp_path, monkeypatch, name):
    """The page does both after every change: whatever they write, nobody would ever delete."""
    asked = {}
    monkeypatch.setattr(
        training._planner, "plan", lambda config, prompts, *more: asked.update(prompts=prompts) or PLAN
    )
    page = form.defaults() | typed(name=name, prompt_text="\n".join(numbered(40)))
    before = disk(tmp_path)
    tab._problems(page, training)
    assert "trained parameters" in tab._plan(page, training)
    assert len(asked["prompts"]) == 30
    assert disk(tmp_path) == before


def own_images(service, tmp_path, *prompts):
    from imagereward_ext.metadata.containers import write_infotext

    outputs = tmp_path / "outputs"
    (outputs / "today").mkdir(parents=True, exist_ok=True)
    service.host.options["outdir_txt2img_samples"] = str(outputs)
    for prompt in prompts:
        file = outputs / "today" / f"{prompt}.png"
        picture(1).save(file)
        write_infotext(file, f"{prompt}\nSteps: 2, Sampler: Euler, Seed: 1, Size: 64x64")
    return outputs


def test_images_are_read_once_however_often_the_form_is_checked(training, service, tmp_path, monkeypatch):
    outputs = own_images(service, tmp_path, "a cat", "a dog")
    values = form.completed({"prompt_source": "of my own images"})
    read, reading = [], prompt_sources.records.read
    monkeypatch.setattr(prompt_sources.records, "read", lambda path: read.append(path.name) or reading(path))
    for _ in range(3):
        assert sorted(training.choices.prompts(values)) == ["a cat", "a dog"]
    assert sorted(read) == ["a cat.png", "a dog.png"]
    own_images(service, tmp_path, "a fox")
    assert sorted(training.choices.prompts(values)) == ["a cat", "a dog", "a fox"]
    assert read[2:] == ["a fox.png"], "only what is new"
    (outputs / "today" / "a cat.png").unlink()
    assert sorted(training.choices.prompts(values)) == ["a dog", "a fox"]
    (outputs / "tomorrow").mkdir()
    (outputs / "today" / "a dog.png").rename(outputs / "tomorrow" / "b.png")
    assert sorted(training.choices.prompts(values)) == ["a dog", "a fox"]
    service.host.options["outdir_txt2img_samples"] = str(tmp_path / "none")
    with pytest.raises(UsageError, match="holds 0 prompts"):
        training.choices.prompts(values)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"prompt_source": "typed below", "prompt_text": "only one"}, "holds 1 prompt; at least 2"),
        ({"prompt_source": "from a file", "prompt_file": "../secret.txt"}, "no prompt file '../secret.txt'"),
        ({"prompt_source": "of my own images"}, "your outputs folder holds 0 prompts"),
        ({"theme": "nothing"}, "no set of prompts 'nothing'"),
        ({"checkpoint": "/etc/passwd"}, "no checkpoint '/etc/passwd'"),
        ({"scorers": "/etc/passwd"}, "no scorer '/etc/passwd'"),
        ({"judge": "../x"}, "no scorer '../x'"),
        ({"judge": "tiny"}, "tiny is also the reward"),
    ],
)
def test_bad_choices_are_one_clear_line_and_start_nothing(training, given, words):
    with pytest.raises(ImageRewardError) as error:
        training.start(typed(**{"prompt_source": "a built-in set", **given}))
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert training.trainer.runs.list() == []


def test_a_prompt_file_of_garbage_is_told_by_its_name(training, tmp_path):
    folder = tmp_path / "models" / "ImageReward" / "prompts"
    folder.mkdir(parents=True)
    (folder / "garbage.txt").write_bytes(bytes(range(128, 256)))
    with pytest.raises(ImageRewardError, match=r"^garbage.txt is not UTF-8"):
        training.start(typed(prompt_source="from a file", prompt_file="garbage.txt"))


def test_a_checkpoint_deleted_meanwhile_is_told(training, service):
    service.host.checkpoints.loaded.weights.unlink()
    with pytest.raises(UsageError, match=r"model.safetensors is not there any more"):
        training.start(typed())


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden"])
def test_names_that_are_none_are_refused(training, name):
    with pytest.raises(ImageRewardError, match="cannot be the name of a run"):
        training.start(typed(name=name))


def test_spaces_around_a_name_are_no_part_of_it(training, monkeypatch):
    monkeypatch.setattr(training.trainer, "start", lambda order, files: order)
    assert training.start(typed(name=" run ")).name == "run"


def test_messages_show_no_folders_to_people_from_elsewhere(training, service):
    text = "the checkpoint /home/me/models/a.ckpt or C:\\Users\\me\\b.ckpt does not exist"
    assert training.privacy.shown(text) == text
    service.host.flags["listen"] = True
    assert training.privacy.shown(text) == "the checkpoint a.ckpt or b.ckpt does not exist"


def test_folders_with_spaces_are_not_shown_either(training, service):
    service.host.folder = Path("/home/Jane Doe/my web ui")
    service.host.flags["listen"] = True
    text = "/home/Jane Doe/my web ui/models/Lora/a.safetensors cannot be written: no permission"
    assert training.privacy.shown(text) == "a.safetensors cannot be written: no permission"
    text = f"the run {training.trainer.runs.folder}/run exists already"
    assert training.privacy.shown(text) == "the run run exists already"


# ---- memory


class Job:
    override_settings: dict = {}  # noqa: RUF012


def test_a_generation_is_refused_where_the_host_does_not_swallow_it(training, monkeypatch, tmp_path):
    order = Order({"name": "run", "output": str(tmp_path)})
    order.folder.mkdir()
    job = Job()
    training.handover.refuse_if_training(job)
    assert job.override_settings == {}
    monkeypatch.setattr(training.trainer.queue, "_busy", order)
    training.handover.make_room(order)
    training.handover.refuse_if_training(job)
    with pytest.raises(handover.TrainingRunsError, match=r"a training has the memory \(run\)"):
        {k: 1 for k in job.override_settings.keys() if k}  # noqa: SIM118 - word for word what hosts do
    with pytest.raises(handover.TrainingRunsError):
        job.override_settings.get("sd_model_checkpoint")


def test_a_host_shows_the_refusal_without_the_name_of_a_class():
    error = handover.TrainingRunsError("a training has the memory")
    assert f"{type(error).__name__}: {error}" == "ImageReward: a training has the memory"


def test_the_job_at_work_goes_on_while_a_training_waits_for_its_turn(
    training, service, monkeypatch, tmp_path
):
    """X/Y/Z plot and img2img batch begin one image after the other, all in one turn."""
    turn = threading.Lock()
    service.host.queue = lambda: turn
    order = Order({"name": "run", "output": str(tmp_path)})
    order.folder.mkdir()
    monkeypatch.setattr(training.trainer.queue, "_busy", order)
    with turn:
        waiting = threading.Thread(target=training.handover.make_room, args=(order,))
        waiting.start()
        training.handover.refuse_if_training(cell := Job())
        assert cell.override_settings == {}
    waiting.join()
    training.handover.refuse_if_training(late := Job())
    with pytest.raises(handover.TrainingRunsError):
        late.override_settings.get("sd_model_checkpoint")


def test_a_training_found_at_the_start_has_the_memory(training, monkeypatch, service, tmp_path):
    order = Order({"name": "run", "output": str(tmp_path)})
    monkeypatch.setattr(Queue, "_adopt_orphan", lambda queue: setattr(queue, "_busy", order))
    found = TrainingService(service, tmp_path / "locks")
    found.handover.refuse_if_training(job := Job())
    with pytest.raises(handover.TrainingRunsError):
        job.override_settings.get("sd_model_checkpoint")


def test_a_generation_goes_on_when_the_user_asked_for_it(training, monkeypatch, tmp_path):
    order = Order({"name": "run", "output": str(tmp_path)}, generate=True)
    order.folder.mkdir()
    monkeypatch.setattr(training.trainer.queue, "_busy", order)
    training.handover.make_room(order)
    job = Job()
    training.handover.refuse_if_training(job)
    assert job.override_settings == {}


@pytest.mark.parametrize(
    ("generate", "device", "precision"), [(False, "cpu", "auto"), (True, "cuda:0", "fp16")]
)
def test_scoring_takes_nothing_from_the_card_of_a_training(training, service, monkeypatch, tmp_path, generate, device, precision):  # fmt: skip
    """Extras, PNG Info and the routes score meanwhile as well."""
    monkeypatch.setattr(service.host, "device", lambda: "cuda:0")
    service.host.options["imagereward_precision"] = "fp16"
    assert (service.wish().compute.device, service.wish().compute.precision) == ("cuda:0", "fp16")
    order = Order({"name": "run", "output": str(tmp_path)}, generate=generate)
    order.folder.mkdir()
    monkeypatch.setattr(training.trainer.queue, "_busy", order)
    training.handover.make_room(order)
    assert (service.wish().compute.device, service.wish().compute.precision) == (device, precision)
    monkeypatch.setattr(training.trainer.queue, "_busy", None)
    assert service.wish().compute.device == "cuda:0"


def test_room_is_made_and_the_checkpoint_comes_back_as_wished(service, tmp_path):
    calls = []
    service.host.checkpoints.make_room = lambda: calls.append("make_room")
    service.host.checkpoints.restore = lambda: calls.append("restore")
    service.host.checkpoints.load_when_asked = lambda: calls.append("load_when_asked")
    with service.residency.borrow(service.wish()):
        pass
    order = Order({"name": "run", "output": str(tmp_path)})
    order.folder.mkdir()
    handover.Handover(service).make_room(order)
    assert calls == ["make_room"]
    assert service.status().name == "", "the scorer makes room as well"
    assert "were unloaded" in (order.folder / "log.txt").read_text()
    handover.Handover(service).give_back(order)
    assert calls == ["make_room", "load_when_asked"]
    handover.Handover(service).give_back(Order(order.config, restore=True))
    assert calls == ["make_room", "load_when_asked", "load_when_asked", "restore"]


def test_a_generation_that_has_the_queue_first_may_load_the_checkpoint(service, tmp_path):
    calls, queue = [], threading.Lock()
    service.host.queue = lambda: queue
    service.host.checkpoints.load_when_asked = lambda: calls.append("load_when_asked")
    service.host.checkpoints.restore = lambda: calls.append("restore")
    order = Order({"name": "run", "output": str(tmp_path)}, restore=True)
    order.folder.mkdir()
    back = threading.Thread(target=handover.Handover(service).give_back, args=(order,))
    with queue:
        back.start()
        deadline = time.monotonic() + 30
        while not calls and time.monotonic() < deadline:
            time.sleep(0.01)
        assert calls == ["load_when_asked"]
    back.join(30)
    assert calls == ["load_when_asked", "restore"]


def test_with_generate_the_checkpoint_stays(service, tmp_path):
    calls = []
    service.host.checkpoints.make_room = lambda: calls.append("make_room")
    service.host.checkpoints.restore = lambda: calls.append("restore")
    service.host.checkpoints.load_when_asked = lambda: calls.append("load_when_asked")
    for restore in (True, False):
        order = Order({"name": "run", "output": str(tmp_path)}, generate=True, restore=restore)
        order.folder.mkdir(exist_ok=True)
        handover.Handover(service).make_room(order)
        handover.Handover(service).give_back(order)
    assert calls == []


def test_a_checkpoint_that_does_not_come_back_is_told_and_is_no_crash(service, tmp_path):
    def broken():
        raise RuntimeError("out of memory")

    service.host.checkpoints.restore = broken
    order = Order({"name": "run", "output": str(tmp_path)}, restore=True)
    order.folder.mkdir()
    handover.Handover(service).give_back(order)
    assert "could not be loaded again: out of memory" in (order.folder / "log.txt").read_text()


# ---- how it goes


def checks(*pairs):
    return [{"step": n, "reward": reward, "judge": judge} for n, (reward, judge) in enumerate(pairs)]


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([], "No check yet"),
        ([(0.1, 0.2)], "Before the training the reward is 0.10"),
        ([(0.0, 0.0), (0.42, 0.11)], "reward +0.42, judge +0.11: healthy"),
        ([(0.0, 0.0), (0.42, -0.11)], "the judge is falling, this looks like reward hacking, stop"),
        ([(0.0, 0.0), (0.3, 0.2), (0.5, 0.05)], "the judge has begun to fall again"),
        ([(0.0, 0.0), (0.01, 0.0)], "no change yet"),
        ([(0.0, 0.0), (-0.3, 0.0)], "the reward is falling"),
        ([(0.0, None), (0.4, None)], "reward +0.40, no judge: healthy"),
    ],
)  # fmt: skip
def test_one_plain_sentence(pairs, words):
    assert words in health.sentence(checks(*pairs))


def test_the_guard_rails_say_what_there_is():
    assert "run-000020 is the best state" in health.ended_by_guard("run-000020")
    assert "there is no LoRA" in health.ended_by_guard("")


# ---- status and pictures


def test_status_finds_the_run_and_sends_each_event_once(training, tmp_path):
    folder = training.trainer.runs.folder / "old"
    (folder / "samples" / "step-000000").mkdir(parents=True)
    (folder / "samples" / "step-000002").mkdir()
    for step in (0, 2):
        picture(step).save(folder / "samples" / f"step-{step:06d}" / "00.png")
    (folder / "config.json").write_text(json.dumps({"config": {"updates": 3}}))
    write = lambda **event: (folder / "events.jsonl").open("a").write(json.dumps(event) + "\n")  # noqa: E731
    write(kind="check", step=0, reward=0.0, judge=None)
    write(kind="update", step=1, reward=0.5)
    first = training.views.status()
    assert first["run"]["name"] == "old"
    assert first["run"]["state"] == "killed"
    assert first["fresh"]
    assert [event["kind"] for event in first["events"]] == ["check", "update"]
    write(kind="update", step=2, reward=0.6)
    again = training.views.status("old", first["run"]["starts"], first["position"])
    assert [event["step"] for event in again["events"]] == [2]
    assert not again["fresh"]
    assert again["samples"][0] == {
        "step": 2,
        "before": "samples/step-000000/00.png",
        "after": "samples/step-000002/00.png",
    }
    assert training.views.picture("old", "samples/step-000002/00.png").is_file()
    for file in ("config.json", "../old/config.json", "samples/../config.json", "/etc/passwd"):
        with pytest.raises(JobError, match="has no picture"):
            training.views.picture("old", file)


def test_without_runs_status_is_empty_and_quick(training):
    started = time.monotonic()
    assert training.views.status()["runs"] == []
    assert time.monotonic() - started < 1


HOSTILE = "<img src=x onerror=alert(1)>\"'&"


class Page(HTMLParser):
    """Tells which tags and attributes a browser would see."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def handle_starttag(self, tag, attributes):
        self.seen |= {tag, *(name for name, _ in attributes)}


def test_no_name_and_no_error_becomes_a_part_of_the_page(training, monkeypatch):
    def refuse(*_):
        raise UsageError(HOSTILE)

    monkeypatch.setattr(training, "check", refuse)
    monkeypatch.setattr(
        training, "plan", lambda values: dict.fromkeys(("text", "warning"), HOSTILE) | {"notes": [HOSTILE]}
    )
    made = [
        tab._problems(form.defaults() | typed(), training),
        tab._plan(typed(), training),
        tab._passing(HOSTILE, HOSTILE, "waiting"),
        tab._load(HOSTILE, training, [])[0],
        panels._paragraph(HOSTILE),
        png_info._shown(HOSTILE),
    ]
    for text in made:
        page = Page()
        page.feed(text)
        assert page.seen <= {"p", "div", "class", "data-run", "data-while", "data-problems"}
    assert html.unescape(made[1]).count(HOSTILE) == 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with a name")
def test_an_output_folder_with_links_to_nowhere_and_pipes_is_read(tmp_path):
    for name in ("a", "b"):
        picture().save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(f"a fox {name}")
    (tmp_path / "gone.png").symlink_to("nowhere")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "c.txt")
    picture().save(tmp_path / "c.png")
    images = prompt_sources.OwnImages()
    for folders in ([tmp_path], [tmp_path / "loop", tmp_path / "gone.png", tmp_path]):
        assert sorted(images.prompts(folders)) == ["a fox a", "a fox b"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with a name")
def test_a_prompt_folder_offers_files_only(training):
    folder = training.choices._service.folder() / "prompts"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("a fox\na dog")
    (folder / "gone.txt").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.txt")
    assert list(training.choices.prompt_files()) == ["a.txt"]
