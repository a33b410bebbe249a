"""Every statistic against a slow, obvious reference, on data full of ties."""

import itertools
import math
import random

import numpy as np
import pytest

from imagereward_ext.evaluation import statistics
from imagereward_ext.evaluation.statistics import Hits


def random_prompts(seed, prompts=60):
    """Ranks and two scorers' scores, small integers so that ties are everywhere; single images included."""
    draw = random.Random(seed)
    sizes = [draw.randint(1, 9) for _ in range(prompts)]
    assert 1 in sizes
    return [tuple([draw.randint(1, high) for _ in range(size)] for high in (5, 6, 4)) for size in sizes]


@pytest.mark.parametrize("seed", range(3))
def test_accuracy_agrees_with_counting_by_hand(seed):
    data = random_prompts(seed)
    right = total = 0
    for ranks, scores, _ in data:
        for i in range(len(ranks)):
            for j in range(len(ranks)):
                if ranks[i] < ranks[j]:  # people prefer i
                    total += 1
                    if scores[i] > scores[j]:
                        right += 1
    measured = statistics.share_interval([statistics.preference_share(r, s) for r, s, _ in data])
    assert measured.value == right / total
    assert measured.low < measured.value < measured.high


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_recall_and_filter_agree_with_sorting(seed, k):
    for ranks, scores, _ in random_prompts(seed):
        # Of all ways to sort tied scores, the least lucky one counts for each image.
        for share, sign in (
            (statistics.recall_share(ranks, scores, k), 1),
            (statistics.filter_share(ranks, scores, k), -1),
        ):
            wanted = [i for i in range(len(ranks)) if all(sign * ranks[i] <= sign * r for r in ranks)]
            found = 0
            for i in wanted:
                unlucky = sorted(range(len(ranks)), key=lambda j: (-sign * scores[j], j == i))
                found += i in unlucky[:k]
            assert share == Hits(found, len(wanted))


def test_agreement_counts_same_strict_order_on_people_s_pairs():
    for ranks, first, second in random_prompts(7):
        alike = total = 0
        for i, j in itertools.combinations(range(len(ranks)), 2):
            if ranks[i] == ranks[j]:
                continue
            total += 1
            product = (first[i] - first[j]) * (second[i] - second[j])
            alike += product > 0
        assert statistics.agreement_share(ranks, first, second) == Hits(alike, total)


def test_a_scorer_s_tie_is_wrong_and_people_s_tie_is_no_pair():
    assert statistics.preference_share([1, 1, 2], [0.5, 0.1, 0.5]) == Hits(0, 2)
    assert statistics.preference_share([1], [0.5]) == Hits(0, 0)


def test_a_constant_scorer_finds_nothing():
    assert statistics.recall_share([1, 2, 3], [0, 0, 0], 2) == Hits(0, 1)
    assert statistics.filter_share([1, 2, 3], [0, 0, 0], 2) == Hits(0, 1)
    assert statistics.recall_share([1, 2, 3], [0, 0, 0], 3) == Hits(1, 1)


def test_the_interval_agrees_with_resampling_prompt_by_prompt():
    draw = np.random.default_rng(3)
    shares = [Hits(int(draw.integers(0, n + 1)), int(n)) for n in draw.integers(1, 10, size=40)]
    values = []
    for _ in range(4000):
        drawn = [shares[i] for i in draw.integers(0, len(shares), size=len(shares))]
        values.append(sum(s.hits for s in drawn) / sum(s.cases for s in drawn))
    measured = statistics.share_interval(shares, resamples=4000)
    assert measured.low == pytest.approx(np.quantile(values, 0.025), abs=0.01)
    assert measured.high == pytest.approx(np.quantile(values, 0.975), abs=0.01)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    draw = np.random.default_rng(0)
    inside = 0
    for trial in range(200):
        interval = statistics.mean_interval(draw.normal(0.3, 1, size=60), resamples=400, seed=trial)
        inside += interval.low <= 0.3 <= interval.high
    assert 180 <= inside <= 199


def test_a_prompt_s_images_are_drawn_together():
    """Ten copies of each value tell nothing new: the interval stays as wide as that of one copy."""
    values = np.random.default_rng(1).normal(size=30)
    one = statistics.mean_interval(values)
    copies = statistics.mean_interval(np.repeat(values, 10), groups=np.repeat(range(30), 10).tolist())
    assert copies == pytest.approx(one)


def test_paired_differences_are_tighter_than_unpaired_ones():
    draw = np.random.default_rng(2)
    hard = draw.uniform(0.1, 0.9, size=80)  # how hard a prompt is, for both scorers alike
    first = [Hits(round(10 * h), 10) for h in hard]
    second = [Hits(round(10 * h) - 1, 10) for h in hard]
    paired = statistics.share_difference(first, second)
    alone = statistics.share_interval(first)
    assert paired.value == pytest.approx(0.1)
    assert paired.high - paired.low < (alone.high - alone.low) / 10
    with pytest.raises(ValueError, match="same prompts"):
        statistics.share_difference(first, second[:-1])


def test_win_rate_counts_a_tie_as_half():
    assert statistics.win_rate([1, 2, 3, 4], [0, 2, 4, 1]).value == 2.5 / 4


def test_same_seed_same_interval_and_global_state_untouched():
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    values = np.arange(20.0)
    assert statistics.mean_interval(values) == statistics.mean_interval(values)
    assert statistics.mean_interval(values, seed=1) != statistics.mean_interval(values)
    assert (np.random.get_state()[1] == before).all()


def test_many_prompts_are_drawn_in_blocks():
    values = np.random.default_rng(0).normal(size=9000)
    interval = statistics.mean_interval(values, resamples=500)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 / math.sqrt(9000), rel=0.15)


def test_spearman_agrees_with_the_textbook_formula_and_shares_tied_ranks():
    draw = random.Random(0)
    first = list(range(10))
    second = draw.sample(range(10), 10)
    textbook = 1 - 6 * sum((a - b) ** 2 for a, b in zip(first, second, strict=True)) / (10 * 99)
    assert statistics.spearman(first, second) == pytest.approx(textbook)
    assert statistics.average_ranks([3, 1, 3, 2]).tolist() == [3.5, 1, 3.5, 2]
    assert statistics.spearman([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(0.9486832980505138)
    assert math.isnan(statistics.spearman([1, 1, 1], [1, 2, 3]))


def test_nothing_measured_is_not_a_number():
    assert math.isnan(statistics.share_interval([]).value)
    assert math.isnan(statistics.share_interval([Hits(0, 0)]).value)
    assert statistics.share_interval([Hits(0, 0)]).percent() == "–"
