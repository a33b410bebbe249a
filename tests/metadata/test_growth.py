"""What reading costs grows with the length of what is read, whoever wrote it: counted, from n to 2n to 4n."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from imagereward_ext.errors import MetadataError
from imagereward_ext.metadata import exif, found_text, infotext, jpeg, png, sources, webp
from imagereward_ext.metadata.containers import Texts
from imagereward_ext.metadata.found_text import FoundText
from imagereward_ext.metadata.prompt import plain_prompt
from imagereward_ext.metadata.score_mark import ScoreMark, find_marks, with_mark, without_marks
from tests.fuzzing import containers, graphs, texts
from tests.fuzzing.work import CountedFile, CountedText, TooMuchWorkError, lines_run

T = TypeVar("T", str, bytes)
MARK = ScoreMark("ImageReward", 0.25, "1a2b3c4d5e", "a: b, c")
SIZE = 60
MOST_PER_LETTER = 200


def assert_linear(grown: Callable[[int], T], work: Callable[[T], int]) -> None:
    """A square would grow four times with each step, and what takes thousands of steps for a letter is no reading."""
    cases = [grown(size) for size in (SIZE, 2 * SIZE, 4 * SIZE)]
    first, second, third = (work(case) for case in cases)
    assert second <= 2.2 * first + 500, (first, second, third)
    assert third <= 2.2 * second + 500, (first, second, third)
    assert third <= MOST_PER_LETTER * len(cases[-1]) + 500, (len(cases[-1]), third)


def read_infotext(text: str) -> None:
    infotext.parse(text)
    infotext.has_parameter_line(text)
    find_marks(text)


def change_infotext(text: str) -> None:
    with_mark(text, MARK, "a: b, c")
    without_marks(text)


@pytest.mark.parametrize("name", texts.GROWING)
@pytest.mark.parametrize("call", [plain_prompt, read_infotext, change_infotext])
def test_reading_a_text_takes_a_bounded_number_of_steps_per_letter(
    call: Callable[[str], object], name: str
) -> None:
    assert_linear(texts.GROWING[name], lambda text: lines_run(lambda: call(text), at_most=10**6))


@pytest.mark.parametrize("name", texts.GROWING)
@pytest.mark.parametrize("call", [read_infotext, change_infotext])
def test_each_letter_of_a_text_is_looked_at_a_bounded_number_of_times(
    call: Callable[[str], object], name: str
) -> None:
    def looked_at(text: str) -> int:
        counted = CountedText.of(text)
        call(counted)
        return counted.looked_at[0]

    assert_linear(texts.GROWING[name], looked_at)


@pytest.mark.parametrize("name", graphs.GROWING)
def test_reading_a_graph_takes_a_bounded_number_of_steps_per_node(name: str) -> None:
    def work(graph: str) -> int:
        found = Texts("PNG", FoundText(), {"prompt": FoundText(graph)})
        return lines_run(lambda: sources.find_prompt(graphs.NOWHERE, found), at_most=10**6)

    assert_linear(graphs.GROWING[name], work)


def read_container(file: CountedFile) -> None:
    data = file.getvalue()
    if data.startswith(png.SIGNATURE):
        png.read_texts(file, ["parameters"])
    elif data.startswith(jpeg.SIGNATURE):
        exif.user_comment(jpeg.read_exif(file))
    else:
        exif.user_comment(webp.read_exif(file))


def change_container(file: CountedFile) -> None:
    data = file.getvalue()
    if data.startswith(png.SIGNATURE):
        b"".join(png.with_text(file, "parameters", "x"))
    elif data.startswith(jpeg.SIGNATURE):
        b"".join(jpeg.with_exif(file, exif.with_user_comment(jpeg.read_exif(file), "x")))
    else:
        b"".join(webp.with_exif(file, exif.with_user_comment(webp.read_exif(file), "x")))


@pytest.mark.parametrize("name", containers.GROWING)
@pytest.mark.parametrize("call", [read_container, change_container])
def test_reading_a_file_takes_a_bounded_number_of_steps_and_reads_per_byte(
    call: Callable[[CountedFile], None], name: str
) -> None:
    def steps(data: bytes) -> int:
        return lines_run(lambda: call(CountedFile(data)), at_most=10**6)

    def read(data: bytes) -> int:
        file = CountedFile(data)
        call(file)
        return 100 * file.reads + file.bytes_read

    assert_linear(containers.GROWING[name], steps)
    assert_linear(containers.GROWING[name], read)


@pytest.mark.parametrize(
    ("name", "size", "says"),
    [
        (
            "texts of one keyword",
            found_text.MOST_TEXTS + 1,
            "holds 1,025 texts; more than 1,024 are not read",
        ),
        ("other chunks", found_text.MOST_PARTS, "has more than 65,536 chunks"),
        ("filling", found_text.MOST_PARTS, "has more than 65,536 segments"),
        ("WebP chunks", found_text.MOST_PARTS, "has more than 65,536 chunks"),
    ],
)
def test_a_file_of_more_parts_than_any_program_makes_is_refused(name: str, size: int, says: str) -> None:
    with pytest.raises(MetadataError, match=says):
        read_container(CountedFile(containers.GROWING[name](size)))


@pytest.mark.parametrize(
    "text",
    [
        zlib.compress(b"x" * (found_text.LONGEST + 1)),
        zlib.compress(b"x" * found_text.LONGEST)[:-6],
        zlib.compress(b"x" * found_text.LONGEST)[:-4] + b"sum!",
        zlib.compress(b"\xff" * found_text.LONGEST),
    ],
    ids=["too long", "cut off", "damaged", "no UTF-8"],
)
def test_texts_that_unfold_to_nothing_take_up_room_too(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    unfolded: list[bytes] = []
    inflated = png._inflated

    def counted(data: bytes, *room: object) -> bytes:
        unfolded.append(data)
        return inflated(data, *room)  # type: ignore[arg-type]

    monkeypatch.setattr(png, "_inflated", counted)
    chunk = containers.png_chunk(b"iTXt", b"parameters\0\1\0\0\0" + text)
    found = png.read_texts(CountedFile(containers.png_with(chunk * 20)), ["parameters"])
    assert "comes after 8,388,608 bytes of others; more are not read" in found["parameters"].flaw
    assert len(unfolded) <= 5


def test_a_text_longer_than_any_prompt_is_refused() -> None:
    longest = "a" * infotext.LONGEST
    assert infotext.parse(longest).prompt == longest
    with pytest.raises(MetadataError, match=r"131,073 characters; more than 131,072 are not read"):
        infotext.parse(longest + "a")


def test_the_counting_finds_a_square_and_stops_what_does_not_end() -> None:
    def read_again_for_each_letter(text: str) -> None:
        for end in range(len(text)):
            infotext.parse(text[:end])

    def work(text: str) -> int:
        return lines_run(lambda: read_again_for_each_letter(text))

    with pytest.raises(AssertionError):
        assert_linear(lambda n: "Aa: b, " * (n // 10), work)
    with pytest.raises(TooMuchWorkError):
        lines_run(lambda: read_again_for_each_letter("a" * 100), at_most=1000)
    text = CountedText.of("abc" * 100)
    for _ in range(5):
        text[1:].strip().find("x")
    assert text.looked_at[0] == 5 * 3 * 299


def test_no_regular_expression_meets_a_text_from_outside() -> None:
    """They backtrack: two of them took a picture of 24 KB for 14 seconds."""
    folder = Path(infotext.__file__).parent
    assert [
        file.name for file in folder.glob("*.py") if "import re\n" in file.read_text(encoding="utf-8")
    ] == []
