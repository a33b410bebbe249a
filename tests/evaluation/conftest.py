from __future__ import annotations

import hashlib

import pytest
import torch

from imagereward_ext.evaluation.scoring import Item, ScoreTable


class CountingScorer:
    """Scores by a hash of pixels and prompt, and counts how many it was asked for."""

    def __init__(self, name="counting", digest="0123456789"):
        self.name, self.digest, self.mean, self.std = name, digest, 0.0, 1.0
        self.dtype = torch.float32
        self.scored = 0

    def score(self, images, prompts):
        self.scored += len(images)
        return [self.value(image, prompt) for image, prompt in zip(images, prompts, strict=True)]

    def value(self, image, prompt):
        content = image.convert("RGB").tobytes() + prompt.encode() + self.digest.encode()
        return int(hashlib.sha256(content).hexdigest()[:6], 16) / 2**24


@pytest.fixture
def counting_scorer():
    return CountingScorer


def scores_from(tables, problems=()):
    """Make a ScoreTable from {scorer: {(image, prompt): score}}."""
    return ScoreTable(
        {n: {Item(*key): value for key, value in t.items()} for n, t in tables.items()}, list(problems)
    )
