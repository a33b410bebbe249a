"""Weight files that somebody would make who means harm: the same promises for each of them."""

from __future__ import annotations

from itertools import islice

import pytest

from tests.fuzzing import smallest, weights


@pytest.fixture(autouse=True)
def nothing_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagereward_ext.weights.digests._write", lambda notes: None)


@pytest.mark.parametrize("seed", range(6))
def test_a_weight_file_is_read_or_refused_and_runs_nothing(seed: int) -> None:
    for case in islice(weights.cases(seed), 50):
        if weights.check(case):
            case = smallest(weights, case)
            raise AssertionError(f"{weights.check(case)}: {case!r}")
