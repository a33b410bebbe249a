"""One pass, every score kept."""

import math

import pytest

from imagereward_ext.compute import Compute
from imagereward_ext.errors import ScoringError
from imagereward_ext.evaluation import lazy, scoring
from imagereward_ext.evaluation.lazy import open_scorer
from imagereward_ext.evaluation.scoring import Item, score_items
from imagereward_ext.images import open_image
from imagereward_ext.scorers.loading import load_scorer
from imagereward_ext.weights.spec import ScorerSpec
from tests.tiny import make_tiny_scorer_folder, picture
from tests.tiny_clip import make_aesthetic_folder, make_mix_folder


@pytest.fixture
def items(tmp_path):
    for n in range(5):
        picture(n).save(tmp_path / f"{n}.png")
    items = [Item(tmp_path / f"{n}.png", f"prompt {n % 2}") for n in range(5)]
    return [*items, Item(items[0].image, "another prompt"), items[0]]


def test_every_item_gets_what_the_scorer_says(items, tmp_path, counting_scorer):
    scorers = [counting_scorer("a", "1"), counting_scorer("b", "2")]
    finished = []
    scores = score_items(items, scorers, tmp_path / "cache", finished.append)
    assert scores.scorers == ["a", "b"]
    for scorer in scorers:
        expected = [scorer.value(open_image(item.image), item.prompt) for item in items]
        assert scores.of(scorer.name, items) == expected
    assert sum(finished) == 5, "images, not items"
    assert [s.scored for s in scorers] == [6, 6], "an item named twice is scored once"


def test_a_second_pass_costs_nothing_even_when_files_were_moved(
    items, tmp_path, counting_scorer, monkeypatch
):
    first = counting_scorer()
    scores = score_items(items, [first], tmp_path / "cache")
    for item in set(items):
        if item.image.exists():
            item.image.rename(item.image.with_stem(f"moved-{item.image.stem}"))
    moved = [Item(i.image.with_stem(f"moved-{i.image.stem}"), i.prompt) for i in items]
    opened = []
    monkeypatch.setattr(scoring, "open_image", lambda path: opened.append(path) or open_image(path))
    second = counting_scorer()
    again = score_items(moved, [second], tmp_path / "cache")
    assert (second.scored, opened) == (0, [])
    assert again.of("counting", moved) == scores.of("counting", items)


def test_other_weights_precision_content_or_prompt_are_scored_anew(items, tmp_path, counting_scorer):
    score_items(items, [counting_scorer()], tmp_path / "cache")
    other_weights = counting_scorer(digest="ffffffffff")
    score_items(items, [other_weights], tmp_path / "cache")
    assert other_weights.scored == 6
    other_standard = counting_scorer()
    other_standard.std = 2.0
    score_items(items, [other_standard], tmp_path / "cache")
    assert other_standard.scored == 6
    picture(99).save(items[1].image)
    changed = counting_scorer()
    score_items([*items, Item(items[2].image, "new")], [changed], tmp_path / "cache")
    assert changed.scored == 2


def test_an_interrupted_pass_goes_on(items, tmp_path, counting_scorer, monkeypatch):
    monkeypatch.setattr(scoring, "_IMAGES_AT_ONCE", 2)

    class Interrupted(counting_scorer):
        def score(self, images, prompts):
            if self.scored >= 3:
                raise KeyboardInterrupt
            return super().score(images, prompts)

    with pytest.raises(KeyboardInterrupt):
        score_items(items, [Interrupted()], tmp_path / "cache")
    cache = next((tmp_path / "cache").glob("*.jsonl"))
    cache.write_text(cache.read_text()[:-9])  # and the crash cut the last line short
    onwards = counting_scorer()
    scores = score_items(items, [onwards], tmp_path / "cache")
    assert onwards.scored == 6 - 3 + 1
    assert scores.of("counting", items) == [onwards.value(open_image(i.image), i.prompt) for i in items]
    last = counting_scorer()
    score_items(items, [last], tmp_path / "cache")
    assert last.scored == 0


def test_missing_and_broken_images_are_listed_and_the_rest_is_scored(items, tmp_path, counting_scorer):
    items[0].image.unlink()
    items[3].image.write_bytes(items[3].image.read_bytes()[:60])
    scores = score_items(items, [counting_scorer()], tmp_path / "cache")
    assert {problem.image for problem in scores.problems} == {items[0].image, items[3].image}
    assert all(problem.reason for problem in scores.problems)
    assert set(scores.by_scorer["counting"]) == {items[1], items[2], items[4]}


def test_a_score_that_is_no_number_is_an_error(items, tmp_path, counting_scorer):
    scorer = counting_scorer()
    scorer.value = lambda image, prompt: math.nan
    with pytest.raises(ScoringError, match="nan for an image"):
        score_items(items, [scorer], tmp_path / "cache")


def test_two_scorers_of_one_name_are_refused(items, tmp_path, counting_scorer):
    with pytest.raises(ScoringError, match="two scorers are called"):
        score_items(items, [counting_scorer(), counting_scorer()], tmp_path / "cache")
    with pytest.raises(ScoringError, match="no scorer"):
        score_items(items, [], tmp_path / "cache")


@pytest.mark.parametrize("make", [make_tiny_scorer_folder, make_aesthetic_folder, make_mix_folder])
def test_a_second_report_loads_no_weights(items, tmp_path, make, monkeypatch):
    folder = make(tmp_path / "scorer")
    loads = []
    real = lazy.loading.load_scorer
    monkeypatch.setattr(lazy.loading, "load_scorer", lambda *a, **k: loads.append(a) or real(*a, **k))

    def report():
        scorer = open_scorer(ScorerSpec(str(folder)), Compute("cpu"))
        return score_items(items, [scorer], tmp_path / "cache").of(scorer.name, items)

    first = report()
    loaded = len(loads)
    assert loaded >= 1
    assert report() == first
    if make is not make_mix_folder:  # a mix is opened to see whether its parts are what they were
        assert len(loads) == loaded
    plain = load_scorer(str(folder), device="cpu")
    assert first == pytest.approx(
        plain.score([open_image(i.image) for i in items], [i.prompt for i in items]), abs=1e-4
    )


def test_changed_files_are_looked_at_again(items, tmp_path):
    folder = make_tiny_scorer_folder(tmp_path / "scorer")
    first = open_scorer(ScorerSpec(str(folder)), Compute("cpu"))
    (folder / "config.json").write_text(
        (folder / "config.json").read_text().replace('"std": 0.5', '"std": 0.25')
    )
    second = open_scorer(ScorerSpec(str(folder)), Compute("cpu"))
    scores = [score_items(items, [s], tmp_path / "cache").of(s.name, items) for s in (first, second)]
    assert scores[1] == pytest.approx([2 * score for score in scores[0]], abs=1e-4)
