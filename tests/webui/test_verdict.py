from dataclasses import replace

import pytest

from imagereward_ext.metadata.score_mark import ScoreMark
from imagereward_ext.webui.job.plots import means
from imagereward_ext.webui.job.scored_image import ScoredImage
from imagereward_ext.webui.job.verdict import judge
from imagereward_ext.webui.options import PER_PROMPT, ScoringRequest


def judged(request, *scores, prompts=None):
    """Judge images of these scores; tell the places of those that are shown and rejected."""
    images = [
        ScoredImage(None, None if score is None else ScoreMark("ImageReward", score), prompt=prompt)
        for score, prompt in zip(scores, prompts or [""] * len(scores), strict=True)
    ]
    verdict = judge(images, request)
    places = {kind: tuple(map(images.index, getattr(verdict, kind))) for kind in ("shown", "rejected")}
    return replace(verdict, **places)


def test_without_a_filter_everything_stays_in_order():
    verdict = judged(ScoringRequest(), 0.1, -3.0, 2.0)
    assert (verdict.shown, verdict.rejected, verdict.message) == ((0, 1, 2), (), "")


def test_the_limit_itself_passes():
    verdict = judged(ScoringRequest(filter_low=True, limit=0.5), 0.49999, 0.5, 0.6)
    assert (verdict.shown, verdict.rejected, verdict.passed) == ((1, 2), (0,), 2)
    assert verdict.message == "2 of 3 passed 0.50"


def test_nothing_passes():
    scores = (0.31, -1.0, 0.2, 0.1, 0.0, -0.5, 0.3, 0.25)
    verdict = judged(ScoringRequest(filter_low=True, limit=0.5), *scores)
    assert verdict.shown == ()
    assert verdict.message == "0 of 8 passed 0.50; best was 0.31"


def test_the_best_one_is_kept_if_wished():
    verdict = judged(ScoringRequest(filter_low=True, limit=0.5, keep_one=True), 0.1, 0.31)
    assert (verdict.shown, verdict.rejected) == ((1,), (0,))
    assert verdict.message == "0 of 2 passed 0.50; best was 0.31 and is kept"


def test_two_decimals_are_not_enough_to_tell_the_best_from_the_limit():
    message = judged(ScoringRequest(filter_low=True, limit=0.5), 0.4996).message
    assert message == "0 of 1 passed 0.5000; best was 0.4996"


def test_best_k_of_the_job_keeps_their_order():
    verdict = judged(ScoringRequest(keep_best=2), 0.1, 3.0, 0.5, 2.0)
    assert (verdict.shown, verdict.rejected) == ((1, 3), (0, 2))
    assert verdict.message == "kept the best 2 of 4"


def test_best_k_of_each_prompt():
    request = ScoringRequest(keep_best=1, keep_best_of=PER_PROMPT)
    verdict = judged(request, 0.1, 3.0, 0.5, 2.0, prompts=["a", "b", "a", "b"])
    assert verdict.shown == (1, 2)


def test_best_k_of_those_that_pass():
    verdict = judged(ScoringRequest(filter_low=True, limit=0.3, keep_best=2), 0.1, 3.0, 0.5, 2.0)
    assert verdict.shown == (1, 3)
    assert verdict.message == "3 of 4 passed 0.30; kept the best 2 of 3"


def test_an_image_without_a_score_is_never_rejected_and_comes_last_when_sorted():
    verdict = judged(ScoringRequest(filter_low=True, limit=0.5, sort=True), None, 0.1, 0.9)
    assert (verdict.shown, verdict.rejected) == ((2, 0), (1,))
    assert verdict.message == "1 of 2 passed 0.50; 1 without a score kept"


def test_sorting_is_stable():
    verdict = judged(ScoringRequest(sort=True), 0.5, 0.9, 0.5, 1.0)
    assert verdict.shown == (3, 1, 0, 2)


@pytest.mark.parametrize(
    "request_",
    [ScoringRequest(filter_low=True, limit=1e9), ScoringRequest(keep_best=3), ScoringRequest(sort=True)],
)
def test_no_images_at_all(request_):
    assert judge([], request_).shown == ()


def test_means_of_rows_and_columns_leave_holes_out():
    rows, columns = means([[1.0, 3.0], [None, 5.0]])
    assert (rows, columns) == ([2.0, 5.0], [1.0, 4.0])
    assert means([[None]]) == ([None], [None])
    assert means([]) == ([], [])
