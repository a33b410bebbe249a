"""The preference report: numbers against counting by hand, broken images, and all four forms."""

import csv
import json
import random
from itertools import combinations
from pathlib import Path

import pytest
from PIL import Image

from imagereward_ext.errors import ImageRewardError
from imagereward_ext.evaluation.preferences import items_of, measure_preferences, preferences_report
from imagereward_ext.rankings import Problem, RankedPrompt
from tests.evaluation.conftest import scores_from


def world(seed=0, prompts=30):
    """Rankings full of ties and two scorers with ties of their own."""
    draw = random.Random(seed)
    ranked, tables = [], {"good": {}, "coin": {}}
    for n in range(prompts):
        size = draw.choice([1, 2, 4, 6, 8, 9])
        images = tuple(Path(f"{n}-{i}.png") for i in range(size))
        ranks = tuple(draw.randint(1, 5) for _ in images)
        ranked.append(RankedPrompt(str(n), f"text {n}", images, ranks))
        for image, rank in zip(images, ranks, strict=True):
            tables["good"][image, f"text {n}"] = -rank + draw.choice([-1, 0, 0, 1])
            tables["coin"][image, f"text {n}"] = draw.randint(0, 3)
    return ranked, scores_from(tables)


def by_hand(ranked, scores, scorer):
    right = total = 0
    for prompt in ranked:
        own = scores.of(scorer, items_of([prompt]))
        for i, j in combinations(range(len(own)), 2):
            if prompt.ranks[i] != prompt.ranks[j]:
                total += 1
                right += (own[i] > own[j]) if prompt.ranks[i] < prompt.ranks[j] else (own[j] > own[i])
    return right, total


def test_accuracy_agrees_with_counting_by_hand():
    ranked, scores = world()
    measured = measure_preferences(ranked, scores)
    for scorer in ("good", "coin"):
        right, total = by_hand(ranked, scores, scorer)
        assert measured.accuracy[scorer].value == right / total
        assert measured.pairs == total
        assert measured.agreement["people", scorer] == measured.accuracy[scorer]
    difference = measured.differences["good", "coin"]
    assert difference.value == pytest.approx(
        measured.accuracy["good"].value - measured.accuracy["coin"].value
    )
    assert difference.low > 0, "the good one is better, and the interval says so"


def test_prompts_without_a_pair_do_not_count_and_recall_needs_enough_images():
    ranked, scores = world()
    measured = measure_preferences(ranked, scores)
    with_pairs = [p for p in ranked if p.pairs()]
    assert measured.prompts == len(with_pairs) < len(ranked)
    assert measured.full_prompts == sum(len(p.images) > 4 for p in with_pairs)
    eight = measure_preferences(ranked, scores, images_per_prompt=8)
    assert eight.full_prompts == sum(len(p.images) == 8 for p in with_pairs)
    assert eight.accuracy == measured.accuracy


def test_broken_images_leave_the_measurement():
    ranked, scores = world()
    gone = ranked[3].images[0]
    for table in scores.by_scorer.values():
        for item in [item for item in table if item.image == gone]:
            del table[item]
    partial = scores_from({}, [Problem(gone, "it does not exist")])
    scores = type(scores)(scores.by_scorer, partial.problems)
    measured = measure_preferences(ranked, scores)
    whole = measure_preferences(*world())
    assert measured.pairs < whole.pairs
    with pytest.raises(ImageRewardError, match="none of the 1 prompts"):
        measure_preferences([RankedPrompt("1", "x", (gone, gone), (1, 2))], scores)


def test_the_report_in_all_its_forms(tmp_path):
    measured = measure_preferences(*world())
    report = preferences_report(measured, skipped=2)
    page = report.write(tmp_path / "out")
    accuracy = f"{100 * measured.accuracy['good'].value:.2f} %"
    text = page.read_text(encoding="utf-8")
    assert accuracy in report.text()
    assert f"| good | {accuracy}" in text
    assert "2 missing or broken images left out" in text
    for line in text.splitlines():
        if line.startswith("!["):
            assert (page.parent / line.split("(")[1].rstrip(")")).is_file()
    data = json.loads((tmp_path / "out" / "preferences.json").read_text())
    assert data["accuracy"]["good"]["value"] == measured.accuracy["good"].value
    rows = list(csv.DictReader((tmp_path / "out" / "preferences.csv").open()))
    assert {row["measure"] for row in rows} >= {
        "accuracy",
        "recall@1",
        "filter@4",
        "agreement",
        "accuracy difference",
    }
    row = next(row for row in rows if (row["measure"], row["scorer"]) == ("accuracy", "coin"))
    assert float(row["value"]) == measured.accuracy["coin"].value
    with Image.open(tmp_path / "out" / "preferences-preference-accuracy.png") as plot:
        assert plot.width > 400


def test_what_cannot_be_measured_is_null_in_json_and_a_dash_on_the_page(tmp_path):
    ranked = [RankedPrompt("1", "x", (Path("a"), Path("b")), (1, 2))]
    scores = scores_from({"one": {(Path("a"), "x"): 1.0, (Path("b"), "x"): 0.0}})
    report = preferences_report(measure_preferences(ranked, scores))
    report.write(tmp_path)
    data = json.loads((tmp_path / "preferences.json").read_text())
    assert data["recall"]["one"]["1"]["value"] is None
    assert "recall" not in report.text()
    assert data["accuracy"]["one"] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_few_prompts_get_no_interval_and_no_verdict():
    for prompts, few in ((9, True), (10, False)):
        ranked, scores = world(prompts=40)
        report = preferences_report(
            measure_preferences([prompt for prompt in ranked if prompt.pairs()][:prompts], scores)
        )
        accuracy, *_, differences = report.tables
        for table in (accuracy, differences):
            assert any("[" in cell for row in table.rows for cell in row) is not few
            assert (f"{prompts} prompts are too few to say" in table.note) is few
        assert ("difference that holds" in report.text()) is not few
        assert ("In brackets" in report.text()) is not few


def test_recall_counts_the_prompts_it_is_measured_on():
    ranked, scores = world(prompts=80)
    full = [prompt for prompt in ranked if prompt.pairs() and len(prompt.images) > 4][:1]
    others = [prompt for prompt in ranked if prompt.pairs() and len(prompt.images) <= 4][:12]
    accuracy, recall, *_ = preferences_report(measure_preferences([*full, *others], scores)).tables
    assert "[" in accuracy.rows[0][1]
    assert "[" not in "".join(recall.rows[0])
    assert "1 prompt is too few to say" in recall.note
