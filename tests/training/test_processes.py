"""What several processes share."""

from __future__ import annotations

import pytest

from imagereward_ext.training.processes import Processes


class OneOf(Processes):
    """One of several, without the others."""

    def __init__(self, index: int, count: int) -> None:
        self._place = index, count

    @property
    def index(self) -> int:
        return self._place[0]

    @property
    def count(self) -> int:
        return self._place[1]


@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_processes_share_a_batch_without_rest_or_overlap(count):
    shares = [OneOf(index, count).share(10) for index in range(count)]
    assert [sample for share in shares for sample in share] == list(range(10))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
