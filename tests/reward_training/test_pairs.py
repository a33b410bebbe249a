"""Which pairs an update sees, and the loss over them."""

import math
from collections import Counter
from pathlib import Path

import pytest
import torch

from imagereward_ext.rankings import RankedPrompt, count_pairs
from imagereward_ext.reward_training.pairs import (
    Batch,
    chunks,
    pairs_of,
    steps_of_epoch,
)


def prompts(*sizes):
    return [
        RankedPrompt(str(n), f"text {n}", tuple(Path(f"{n}-{i}") for i in range(k)), tuple(range(1, k + 1)))
        for n, k in enumerate(sizes)
    ]


def test_every_pair_is_seen_once_in_an_epoch_and_updates_are_full():
    data = prompts(4, 9, 5, 2, 7, 1)
    steps = steps_of_epoch(data, 16, seed=0, epoch=0)
    assert [len(step) for step in steps[:-1]] == [16] * (len(steps) - 1)
    assert Counter(c for step in steps for c in step) == Counter(pairs_of(data))
    assert sum(map(len, steps)) == count_pairs(data)


def test_epochs_differ_and_repeat_with_the_seed():
    data = prompts(*[4] * 20)
    assert steps_of_epoch(data, 16, 0, 1) == steps_of_epoch(data, 16, 0, 1)
    assert steps_of_epoch(data, 16, 0, 1) != steps_of_epoch(data, 16, 0, 2)
    assert steps_of_epoch(data, 16, 0, 1) != steps_of_epoch(data, 16, 1, 1)


def test_nine_images_in_36_pairs_are_nine_cases_and_not_72():
    batch = Batch.of(pairs_of(prompts(9)))
    assert len(batch.better) == 36
    assert len(batch.cases) == 9


def test_a_tie_makes_no_pair():
    tied = RankedPrompt("1", "x", (Path("a"), Path("b"), Path("c")), (1, 1, 2))
    assert [(c.better.image.name, c.worse.image.name) for c in pairs_of([tied])] == [
        ("a", "c"),
        ("b", "c"),
    ]


def test_the_loss_is_minus_log_sigmoid_of_the_difference():
    batch = Batch.of(pairs_of(prompts(3)))
    rewards = torch.tensor([0.5, -1.0, 2.0])
    expected = [math.log(1 + math.exp(-(rewards[i] - rewards[j]))) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert batch.losses(rewards).tolist() == pytest.approx(expected)


def test_updates_are_cut_without_rest_or_overlap():
    steps = list(pairs_of(prompts(5)))
    assert [len(part) for part in chunks(steps, 4)] == [4, 4, 2]
    assert [comparison for part in chunks(steps, 4) for comparison in part] == steps
