"""Generators by mean score, the pick of each scorer, and the sheets and plots that show them."""

import json
import statistics
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagereward_ext.errors import ImageRewardError
from imagereward_ext.evaluation import generators, top1
from imagereward_ext.evaluation.contact_sheet import Cell, Row, contact_sheet
from imagereward_ext.evaluation.plots import Axis, distribution_plot, interval_plot
from imagereward_ext.evaluation.report import Table
from imagereward_ext.evaluation.statistics import Interval
from imagereward_ext.rankings import RankedPrompt
from tests.evaluation.conftest import scores_from
from tests.tiny import picture

PROMPTS = {"005695-0057": "a vehicle", "005784-0093": "a desert", "a_1": "under_scores"}


@pytest.fixture
def models(tmp_path):
    for model in ("first", "second", "third"):
        for key in PROMPTS:
            for n in (0, 1, 10, 2):
                path = tmp_path / "models" / model / f"{key}_{n}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                picture(n, (16, 16)).save(path)
        (tmp_path / "models" / model / "notes.txt").write_text("x")
        picture(1, (16, 16)).save(tmp_path / "models" / model / "unknown-id_0.png")
    return tmp_path / "models"


def scored(read, means):
    """Give each model its mean, spread over its images."""
    table = {}
    for generator in read:
        for key, paths in generator.images.items():
            for n, path in enumerate(paths):
                table[path, PROMPTS[key]] = means[generator.name] + 0.1 * n
    return scores_from({"scorer": table})


def test_images_are_read_by_prompt_id_in_the_order_of_their_numbers(models):
    read = generators.read_generators([models], PROMPTS)
    assert [g.name for g in read] == ["first", "second", "third"]
    assert [path.name for path in read[0].images["a_1"]] == [
        "a_1_0.png",
        "a_1_1.png",
        "a_1_2.png",
        "a_1_10.png",
    ]
    assert set(read[0].images) == set(PROMPTS)
    two = generators.read_generators([models / "third", models / "first"], PROMPTS)
    assert [g.name for g in two] == ["third", "first"]


def test_means_places_and_correlation(models):
    read = generators.read_generators([models], PROMPTS)
    (models / "second" / "a_1_0.png").unlink()
    read = generators.read_generators([models], PROMPTS)
    scores = scored(read, {"first": 0.0, "second": 1.0, "third": -1.0})
    places = generators.parse_human_ranking("second, third, first", [g.name for g in read])
    measured = generators.measure_generators(read, PROMPTS, scores, places)
    standings = measured.standings["scorer"]
    assert list(standings) == ["second", "first", "third"]
    assert [s.place for s in standings.values()] == [1, 2, 3]
    per_prompt = [
        1.15,
        1.15,
        statistics.fmean([1.0, 1.1, 1.2]),
    ]  # a missing image does not weigh its prompt down
    assert standings["second"].mean.value == pytest.approx(statistics.fmean(per_prompt))
    assert (standings["second"].images, standings["first"].images) == (11, 12)
    assert measured.correlation["scorer"] == pytest.approx(0.5)


def test_the_generators_report(models, tmp_path):
    read = generators.read_generators([models], PROMPTS)
    scores = scored(read, {"first": 0.0, "second": 1.0, "third": -1.0})
    places = {"first": 2.0, "second": 1.0, "third": 3.0}
    measured = generators.measure_generators(read, PROMPTS, scores, places)
    report = generators.generators_report(measured, places)
    assert "1.0000" in report.text(), "Spearman's rho"
    report.write(tmp_path / "out")
    data = json.loads((tmp_path / "out" / "generators.json").read_text())
    assert data["spearman"] == {"scorer": pytest.approx(1.0)}
    assert len(data["scores"]["scorer"]["first"]) == 12
    assert (tmp_path / "out" / "generators-scores-by-scorer.png").is_file()


def test_fewer_than_ten_prompts_give_a_model_no_interval():
    standings = {
        name: generators.Standing(Interval(1.0, 0.5, 1.5), 1, 20, prompts)
        for name, prompts in (("few", 9), ("enough", 10))
    }
    measured = generators.Benchmark({"s": standings}, {"s": {name: [1.0, 2.0] for name in standings}}, {})
    few, enough = generators.generators_report(measured).tables[0].rows
    assert (few[3], enough[3]) == ("–", "[0.5000, 1.5000]")


def test_prompts_and_rankings_that_cannot_be_read_are_named(models, tmp_path):
    names = ["first", "second", "third"]
    with pytest.raises(ImageRewardError, match="names 'fourth'"):
        generators.parse_human_ranking("first,fourth,third", names)
    with pytest.raises(ImageRewardError, match="ranking of 2 models"):
        generators.parse_human_ranking("first,third", names)
    (tmp_path / "places.json").write_text('{"first": 1, "second": 2, "third": 3}')
    assert generators.parse_human_ranking(str(tmp_path / "places.json"), names)["third"] == 3
    (tmp_path / "p.json").write_text('[{"id": "1"}]')
    with pytest.raises(ImageRewardError, match="no prompt file"):
        generators.read_prompts(tmp_path / "p.json")
    with pytest.raises(ImageRewardError, match="holds no image named"):
        generators.read_generators([models / "first", tmp_path], PROMPTS)


def test_each_scorer_picks_its_best_and_people_s_best_is_framed(tmp_path):
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    paths = [tmp_path / f"{n}.png" for n in range(3)]
    for path, colour in zip(paths, colours, strict=True):
        Image.new("RGB", (20, 20), colour).save(path)
    ranked = [
        RankedPrompt("1", "a prompt", tuple(paths), (2, 1, 3)),
        RankedPrompt("2", "gone", (tmp_path / "x.png",), (1,)),
    ]
    table = dict.fromkeys([(paths[0], "a prompt"), (paths[2], "a prompt")], 0.5)
    scores = scores_from(
        {"right": {**table, (paths[1], "a prompt"): 0.7}, "wrong": {**table, (paths[1], "a prompt"): 0.1}}
    )
    picks = top1.pick_best(top1.from_rankings(ranked), scores)
    assert len(picks) == 1
    assert picks[0].chosen == {"right": (paths[1], 0.7), "wrong": (paths[0], 0.5)}
    report = top1.top1_report(picks, ["right", "wrong"], skipped=1)
    sheet = np.array(report.pictures["Sheet 1"])
    for colour in (colours[1], colours[0], (0, 114, 178)):
        assert (sheet == colour).all(axis=-1).any()
    page = report.write(tmp_path / "out")
    assert "| right | 100.0 % | 0.0 % | 100.0 % |" in page.read_text()
    assert (
        json.loads((tmp_path / "out" / "top1.json").read_text())["picks"][0]["chosen"]["wrong"]["score"]
        == 0.5
    )
    with pytest.raises(ImageRewardError, match="nothing to pick from"):
        top1.pick_best(top1.from_rankings(ranked[1:]), scores)


def test_many_prompts_fill_several_sheets(tmp_path):
    picture(0).save(tmp_path / "a.png")
    candidates = [top1.Generations(f"prompt {n}", [tmp_path / "a.png"]) for n in range(30)]
    scores = scores_from({"s": {(tmp_path / "a.png", c.prompt): 1.0 for c in candidates}})
    report = top1.top1_report(top1.pick_best(candidates, scores), ["s"])
    assert len(report.pictures) == 3


def test_a_contact_sheet_holds_every_picture_whole(tmp_path):
    wide, tall = Image.new("RGB", (400, 100), (255, 0, 0)), Image.new("RGB", (100, 400), (0, 0, 255))
    rows = [
        Row("a long text " * 40, [Cell(wide, "wide"), Cell(tall, "tall")]),
        Row("", [Cell(Path("missing.png"), "gone"), Cell(None)]),
    ]
    sheet = np.array(contact_sheet(rows, ["one", "two"], side=100))
    red, blue = ((sheet == colour).all(axis=-1) for colour in ((255, 0, 0), (0, 0, 255)))
    assert (int(red.any(axis=1).sum()), int(red.any(axis=0).sum())) == (25, 100)
    assert (int(blue.any(axis=1).sum()), int(blue.any(axis=0).sum())) == (100, 25)
    assert contact_sheet([]).size[0] > 0


def test_plots_put_values_where_the_axis_says():
    values = {
        "a": Interval(0.65, 0.6, 0.7),
        "b": Interval(0.5, float("nan"), float("nan")),
        "c": Interval(*[float("nan")] * 3),
    }
    plot = np.array(interval_plot("t", values, percent=True, mark=0.5, mark_label="chance"))
    blue = np.argwhere((np.abs(plot.astype(int) - (0, 114, 178)) < 60).all(axis=-1))
    axis = Axis.around([0.6, 0.65, 0.7, 0.5, 0.5], percent=True)
    assert (axis.low, axis.high) == (pytest.approx(0.5), pytest.approx(0.7))
    assert axis.spell(0.65, finer=True) == "65.00 %"
    assert axis.spell(-0.0) == "0 %"
    left, right = blue[:, 1].min(), blue[:, 1].max()
    assert right - left == pytest.approx((plot.shape[1] - 90 - 80) / 2, abs=40), "0.6 to 0.7 is half the axis"


def test_distributions_of_nothing_one_value_and_many():
    plot = distribution_plot("t", {"many": list(np.linspace(-1, 1, 100)), "one": [0.3], "none": []})
    assert plot.height > 200
    assert distribution_plot("t", {"none": []}).height > 0


def test_a_table_survives_bars_and_line_ends():
    table = Table("T", ["name", "value"], [["a|b\nc", "1"]])
    assert "a\\|b c" in table.markdown()
