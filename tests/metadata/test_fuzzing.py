"""A short round of hostile input, and the proof that the round can fail."""

from __future__ import annotations

from itertools import islice

import PIL
import pytest

from imagereward_ext import images
from imagereward_ext.metadata import infotext, png, sources
from imagereward_ext.metadata.found_text import FoundText
from tests.fuzzing import Kind, containers, graphs, smallest, texts

KINDS: dict[str, tuple[Kind, int]] = {
    "texts": (texts, 300),
    "graphs": (graphs, 500),
    "containers": (containers, 150),
}


@pytest.mark.parametrize("name", KINDS)
def test_hostile_input_does_no_harm(name: str) -> None:
    kind, count = KINDS[name]
    failures = [(case, failure) for case in islice(kind.cases(14), count) if (failure := kind.check(case))]
    assert [(smallest(kind, case), failure) for case, failure in failures[:1]] == []


@pytest.mark.parametrize("name", KINDS)
def test_the_same_seed_gives_the_same_cases(name: str) -> None:
    kind, _ = KINDS[name]
    assert list(islice(kind.cases(3), 20)) == list(islice(kind.cases(3), 20))
    assert list(islice(kind.cases(3), 20)) != list(islice(kind.cases(4), 20))


def test_a_writer_that_forgets_to_look_at_its_work_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infotext, "quote", lambda value: value)
    case = next(case for case in texts.cases(1) if texts.check(case))
    simplest = smallest(texts, case)
    assert texts.check(simplest)
    assert len(simplest) <= len(case)


def test_a_reader_of_graphs_that_stops_early_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_LINKS_TO_TEXT", ("text",))
    assert any(graphs.check(case) for case in islice(graphs.cases(1), 500))


@pytest.mark.skipif(int(PIL.__version__.split(".")[0]) >= 13, reason="Pillow refuses most of them itself")
def test_an_opener_that_refuses_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert containers.check(containers.BOMBS["TIFF"]()) is None
    monkeypatch.setattr(images, "refuse_bombs", lambda file: None)
    monkeypatch.setattr(images, "is_bomb", lambda block: False)
    case = next(case for case in containers.cases(14) if containers.check(case))
    assert "opening takes" in str(containers.check(case))


def test_a_writer_that_takes_what_it_cannot_read_for_nothing_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        png,
        "read_texts",
        lambda file, keywords, read=png.read_texts: {
            keyword: FoundText(found.text) for keyword, found in read(file, keywords).items()
        },
    )
    case = containers.png_with(containers.png_chunk(b"iTXt", b"parameters\0\0\0\0\0\xff"))
    assert "a text that nobody read is gone" in str(containers.check(case))
