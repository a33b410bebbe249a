"""Which images are kept."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagereward_ext import selection
from imagereward_ext.errors import UsageError

NAN = math.nan
SCORES = st.lists(st.one_of(st.none(), st.just(NAN), st.integers(-3, 3).map(float)), max_size=12)


def test_the_limit_itself_passes_and_what_is_no_number_never_does() -> None:
    assert selection.passing([0.5, 0.0, -0.1, None, NAN, math.inf], 0.0) == [0, 1, 5]
    assert selection.passing([None, NAN, -math.inf], -math.inf) == [2]


def test_equal_scores_rank_in_the_order_given() -> None:
    assert selection.ranked([1.0, None, 2.0, 1.0, NAN, 2.0]) == [2, 5, 0, 3]


@pytest.mark.parametrize(("count", "best"), [(0, []), (1, [2]), (3, [0, 2, 5]), (99, [0, 2, 3, 5])])
def test_the_best_k(count: int, best: list[int]) -> None:
    assert selection.best([1.0, None, 2.0, 1.0, NAN, 2.0], count) == best


def test_limit_and_count_hold_together() -> None:
    assert selection.kept([3.0, 1.0, 2.0, None], limit=1.5, count=3) == [0, 2]
    assert selection.kept([3.0, 1.0, 2.0, None], limit=0.0, count=1) == [0]
    assert selection.kept([3.0, None]) == [0, 1]
    assert selection.kept([], limit=0.0, count=1) == []


def test_share_below() -> None:
    assert selection.share_below([1.0, 2.0, 3.0, 4.0, None], 3.0) == 0.625
    assert selection.share_below([1.0], 2.0) == 1.0
    assert selection.share_below([None, NAN], 0.0) is None


@pytest.mark.parametrize(("share", "limit"), [(0.07, 94.0), (0.5, 51.0), (1.0, 1.0), (0.001, 100.0)])
def test_the_limit_that_a_share_reaches(share: float, limit: float) -> None:
    assert selection.limit_for_share([float(n) for n in range(1, 101)], share) == limit


def test_no_scores_have_no_limit() -> None:
    assert selection.limit_for_share([None], 0.5) is None


@pytest.mark.parametrize("share", [0.0, -1.0, 1.1, NAN])
def test_a_share_is_more_than_nothing_and_at_most_all(share: float) -> None:
    with pytest.raises(UsageError, match="share"):
        selection.limit_for_share([1.0], share)


def test_a_negative_count_is_an_error() -> None:
    with pytest.raises(UsageError, match="best -1"):
        selection.best([1.0], -1)


@given(SCORES, st.integers(0, 13))
def test_nothing_left_out_is_better_than_anything_kept(scores: list[float | None], count: int) -> None:
    kept = selection.best(scores, count)
    out = [scores[i] for i in selection.ranked(scores) if i not in kept]
    assert kept == sorted(kept)
    assert len(kept) == min(count, len(selection.ranked(scores)))
    assert all(scores[i] >= other for i in kept for other in out)  # type: ignore[operator]


@given(SCORES, st.floats(0.01, 1))
def test_the_share_that_reaches_its_limit_is_at_least_the_one_asked_for(
    scores: list[float | None], share: float
) -> None:
    limit = selection.limit_for_share(scores, share)
    if limit is not None:
        assert len(selection.passing(scores, limit)) >= share * len(selection.ranked(scores)) - 1e-6
