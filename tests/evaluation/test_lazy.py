"""A scorer is loaded when a score is missing, or when nobody can say any more what it is."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from imagereward_ext.compute import Compute
from imagereward_ext.evaluation import lazy
from imagereward_ext.evaluation.lazy import LazyScorer, open_scorer
from imagereward_ext.weights import catalogue, digests
from imagereward_ext.weights.spec import ScorerSpec
from tests.tiny import TINY, make_tiny_scorer_folder, tiny_weights, write_vocabulary

pytestmark = pytest.mark.usefixtures("no_digest_known")


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What has been loaded."""
    calls: list[Any] = []
    load = lazy.loading.load_scorer
    monkeypatch.setattr(
        lazy.loading, "load_scorer", lambda spec, **more: calls.append(spec) or load(spec, **more)
    )
    return calls


def opened(path: Path) -> LazyScorer:
    return open_scorer(ScorerSpec(str(path), download=False), Compute("cpu"))


def test_another_process_knows_the_scorer_without_loading_it(
    tmp_path: Path, loads: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_tiny_scorer_folder(tmp_path / "tiny")
    first = opened(folder)
    monkeypatch.setattr(digests, "_known", {})
    assert opened(folder).digest == first.digest
    assert len(loads) == 1


def test_other_weights_of_the_same_size_and_date_are_another_scorer(tmp_path: Path) -> None:
    folder = make_tiny_scorer_folder(tmp_path / "tiny")
    first = opened(folder)
    weights = folder / "model.safetensors"
    date = weights.stat().st_mtime_ns
    content = weights.read_bytes()
    weights.write_bytes(content[:-4] + bytes(4))
    os.utime(weights, ns=(date, date))
    assert (weights.stat().st_size, weights.stat().st_mtime_ns) == (len(content), date)
    assert opened(folder).digest != first.digest


def test_another_companion_and_other_settings_are_looked_at(tmp_path: Path, loads: list[Any]) -> None:
    folder = make_tiny_scorer_folder(tmp_path / "tiny")
    opened(folder)
    with (folder / "vocab.txt").open("a", encoding="utf-8") as vocabulary:
        vocabulary.write("another\n")
    opened(folder)
    assert len(loads) == 2
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["settings"]["window"] -= 1
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    opened(folder)
    opened(folder)
    assert len(loads) == 3


def test_weights_that_were_converted_on_the_way_are_loaded_once_too(
    tmp_path: Path, loads: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = dataclasses.replace(catalogue.ENTRIES[catalogue.DEFAULT], settings=dataclasses.asdict(TINY))
    monkeypatch.setitem(catalogue.ENTRIES, catalogue.DEFAULT, entry)
    torch.save(tiny_weights(), tmp_path / "tiny.pt")
    write_vocabulary(tmp_path / entry.companions["vocabulary"].name)
    first = opened(tmp_path / "tiny.pt")
    assert (tmp_path / "tiny.safetensors").is_file()
    assert opened(tmp_path / "tiny.pt").digest == first.digest
    assert len(loads) == 1


def test_a_converted_copy_that_changed_is_looked_at_too(tmp_path: Path, loads: list[Any]) -> None:
    folder = make_tiny_scorer_folder(tmp_path / "tiny")
    config = folder / "config.json"
    config.write_text(config.read_text().replace("model.safetensors", "m.bin"))
    torch.save(tiny_weights(), folder / "m.bin")
    first = opened(folder)
    assert opened(folder).digest == first.digest
    assert len(loads) == 1
    copy = folder / "m.safetensors"
    copy.write_bytes(copy.read_bytes()[:-4] + bytes(4))
    assert opened(folder).digest != first.digest
