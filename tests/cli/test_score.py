"""`score`: numbers for files, whatever the files are like."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import load_file

from imagereward_ext.cli import scoring as cli_scoring
from imagereward_ext.cli.exit_codes import SOME_FAILED
from imagereward_ext.errors import ScoringError
from imagereward_ext.images import open_image
from imagereward_ext.metadata import records
from imagereward_ext.metadata.prompt import plain_prompt
from imagereward_ext.scorers import load_scorer
from imagereward_ext.scorers.base import EmbeddingScorer
from imagereward_ext.weights.tensors import save_tensors
from tests.cli.conftest import Command, save
from tests.fuzzing.containers import png_chunk
from tests.tiny import picture

ROOT = Path(__file__).resolve().parents[2]


def test_each_image_is_scored_under_its_own_prompt_in_the_order_given(
    scoring: Command, gallery: Path, tiny_folder: Path
) -> None:
    paths = [gallery / f"{number}.png" for number in (4, 0, 2)]
    result = scoring("score", *paths, "--json")
    assert (result.code, result.err) == (0, "")
    records = json.loads(result.out)
    assert [record["file"] for record in records] == [str(path) for path in paths]
    assert [record["prompt"] for record in records] == [f"a red fox, in snow {n}" for n in (4, 0, 2)]
    scorer = load_scorer(str(tiny_folder), device="cpu")
    expected = scorer.score([open_image(path) for path in paths], [record["prompt"] for record in records])
    assert [record["score"] for record in records] == pytest.approx(expected, abs=1e-5)
    assert {record["hash"] for record in records} == {scorer.digest}


def test_lines_are_for_people_and_csv_for_tables(scoring: Command, gallery: Path) -> None:
    lines = scoring("score", gallery).out.splitlines()
    rows = list(csv.DictReader(io.StringIO(scoring("score", gallery, "--csv").out)))
    assert [line.split()[1] for line in lines] == [row["file"] for row in rows]
    assert [float(line.split()[0]) for line in lines] == pytest.approx(
        [float(row["score"]) for row in rows], abs=1e-4
    )


def test_written_scores_are_read_by_the_next_run(
    scoring: Command, gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = json.loads(scoring("score", gallery, "--write", "--json").out)
    save(gallery / "9.png", 9)
    asked_for = watch(monkeypatch)
    again = json.loads(scoring("score", gallery, "--write", "--only-unscored", "--json").out)
    assert [record["stored"] for record in again] == [True] * 6 + [False]
    assert [r["score"] for r in again[:6]] == pytest.approx([r["score"] for r in first], abs=5e-5)
    assert asked_for == ["a red fox, in snow 9"]
    # Another text is another question, and other weights are another judge.
    asked_for.clear()
    scoring("score", gallery, "--only-unscored", "--prompt", "a dog")
    assert len(asked_for) == 7
    assert records.read(gallery / "0.png").mark("Tiny") is not None


def test_other_weights_never_pass_for_an_old_score(
    scoring: Command, command: Command, gallery: Path, tmp_path: Path, tiny_folder: Path
) -> None:
    scoring("score", gallery, "--write")
    retrained = shutil.copytree(tiny_folder, tmp_path / "tiny")
    tensors = load_file(tiny_folder / "model.safetensors")
    save_tensors(retrained / "model.safetensors", {name: 1.5 * tensor for name, tensor in tensors.items()})
    result = command("score", gallery, "--only-unscored", "--json", "--scorer", retrained, "--device", "cpu")
    assert not any(record["stored"] for record in json.loads(result.out))


def test_times_of_change_are_kept_for_who_sorts_by_them(scoring: Command, gallery: Path) -> None:
    for path in gallery.iterdir():
        os.utime(path, (1_000_000, 1_000_000))
    scoring("score", gallery / "0.png", "--write", "--keep-times")
    scoring("score", gallery / "1.png", "--write")
    assert (gallery / "0.png").stat().st_mtime == 1_000_000
    assert (gallery / "1.png").stat().st_mtime > 1_000_000
    assert records.read(gallery / "0.png").mark("Tiny") is not None


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_ctrl_c_waits_until_the_file_at_hand_is_written(
    scoring: Command, gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupted(descriptor: int) -> None:
        signal.raise_signal(signal.SIGINT)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", interrupted)
    try:
        result = scoring("score", gallery, "--write")
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.code == 130
    assert result.err.splitlines()[-1].endswith("of 6 images done, all files are whole")
    assert sorted(path.name for path in gallery.iterdir()) == [f"{number}.png" for number in range(6)]
    assert records.read(gallery / "0.png").mark("Tiny") is not None
    assert records.read(gallery / "1.png").mark("Tiny") is None


def test_a_text_for_all_images_is_noted_beside_the_score(scoring: Command, gallery: Path) -> None:
    path = gallery / "0.png"
    scoring("score", path, "--prompt", "a (blue:1.1) bird", "--write")
    mark = records.read(path).mark("Tiny")
    assert mark is not None
    assert mark.prompt == "a blue bird"
    scoring("score", path, "--prompt", "a red fox, in snow 0", "--write")  # the image's own
    mark = records.read(path).mark("Tiny")
    assert mark is not None
    assert mark.prompt is None


def test_files_without_metadata_get_a_mark_of_their_own(scoring: Command, tmp_path: Path) -> None:
    for name in ("a.png", "b.jpg", "c.webp"):
        picture().save(tmp_path / name)
    assert scoring("score", tmp_path, "--prompt", "a red fox", "--write").code == 0
    again = json.loads(scoring("score", tmp_path, "--only-unscored", "--json").out)
    assert [(record["stored"], record["prompt"]) for record in again] == [(True, "a red fox")] * 3


@pytest.mark.parametrize(("output", "printed"), [("--json", "[]\n"), ("--csv", "file,score,"), ("", "")])
def test_a_folder_without_images_prints_what_a_program_can_read(
    scoring: Command, tmp_path: Path, output: str, printed: str
) -> None:
    told = scoring("score", tmp_path, *([output] if output else []))
    assert (told.code, told.out[: len(printed)]) == (SOME_FAILED, printed)
    assert "no images in this folder" in told.err


def bad_files(folder: Path) -> dict[str, str]:
    """One of each kind that goes wrong, with what is said about it."""
    save(folder / "good0.png", 0)
    save(folder / "good9.png", 9)
    (folder / "empty.png").write_bytes(b"")
    (folder / "cut.png").write_bytes((folder / "good0.png").read_bytes()[:600])
    (folder / "text.jpg").write_text("hello")
    (folder / "folder.png").mkdir()
    save(folder / "folder.png" / "inside.png")
    save(folder / "noprompt.png", prompt=None)
    return {
        "empty.png": "is empty (0 bytes)",
        "cut.png": "is truncated or damaged",
        "text.jpg": "is not an image",
        "noprompt.png": "has no prompt in it, nor a .txt beside it; give one with --prompt",
    }


@pytest.mark.parametrize("batch", [1, 8])
def test_bad_files_are_listed_and_stop_nothing(scoring: Command, tmp_path: Path, batch: int) -> None:
    expected = bad_files(tmp_path)
    missing = tmp_path / "missing.png"
    result = scoring("score", tmp_path, missing, "--json", "--batch-size", batch)
    assert result.code == 1
    records = {Path(record["file"]).name: record for record in json.loads(result.out)}
    assert {name for name, record in records.items() if record["score"] is not None} == {
        "good0.png",
        "good9.png",
    }
    for name, words in expected.items():
        assert records[name]["error"].startswith(f"{tmp_path / name}: {words}")
        assert f"error: {records[name]['error']}" in result.errors
    assert f"error: {missing}: no such file or folder" in result.errors
    assert "4 of 6 images failed; the reasons are listed above" in result.err
    assert len(scoring("score", tmp_path).out.splitlines()) == 2


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.")],
)
def test_one_image_too_large_for_the_memory_takes_no_other_with_it(error: Exception) -> None:
    class Scorer:
        def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
            if any(image.width > 100 for image in images):
                raise error
            return [1.0 for _ in images]

    ready = [
        cli_scoring._Ready(picture().resize((width, 50)), None, cli_scoring.Outcome(Path("a.png")))
        for width in (50, 200, 50)
    ]
    scores = cli_scoring._scores(Scorer(), ready)
    assert scores[0] == scores[2] == 1.0
    assert scores[1].startswith("could not be scored (") and "; try a smaller --batch-size" in scores[1]


def test_strange_images_are_scored_like_all_others(scoring: Command, tmp_path: Path) -> None:
    grey = np.linspace(0, 65535, 48 * 40).reshape(40, 48).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "sixteen.png")
    picture().convert("CMYK").save(tmp_path / "cmyk.jpg")
    frames = [picture(seed) for seed in range(3)]
    frames[0].save(tmp_path / "animated.webp", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "animated.png", save_all=True, append_images=frames[1:])
    tags = Image.Exif()
    tags[0x0112] = 6
    picture().save(tmp_path / "turned.jpg", exif=tags)
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    Image.new("RGB", (20000, 20)).save(tmp_path / "strip.png")
    for mode in ("RGBA", "P", "L", "LA", "1"):
        picture(mode=mode).save(tmp_path / f"mode-{mode}.png")
    result = scoring("score", tmp_path, "--prompt", "a red fox", "--write", "--json")
    assert (result.code, result.err) == (0, "")
    records = json.loads(result.out)
    assert len(records) == 12
    assert all(math.isfinite(record["score"]) for record in records)
    again = json.loads(scoring("score", tmp_path, "--only-unscored", "--json").out)
    assert all(record["stored"] for record in again)


@pytest.mark.parametrize("prompt", ["🦊 in ❄️, 狐狸", "ثعلب أحمر في الثلج שועל", "naïve \\(café\\), “quoted”"])
def test_prompts_of_all_writing_systems(scoring: Command, tmp_path: Path, prompt: str) -> None:
    path = save(tmp_path / "a.png", 1, prompt)
    (record,) = json.loads(scoring("score", path, "--write", "--json").out)
    assert record["prompt"] == f"{plain_prompt(prompt)} 1"
    (again,) = json.loads(scoring("score", path, "--only-unscored", "--json").out)
    assert again["stored"]


def test_a_prompt_of_two_thousand_words_is_scored_and_the_unread_part_told_once(
    scoring: Command, tmp_path: Path
) -> None:
    prompt = "red " * 2000
    for name in ("a.png", "b.png", "c.jpg"):
        picture().save(tmp_path / name)
    result = scoring("score", tmp_path, "--prompt", prompt, "--write", "--json")
    assert result.code == 0
    assert result.err.count("note: ") == 1
    assert "does not read the last 1,986 of 2,000 words" in result.err
    assert {len(record["unread"].split()) for record in json.loads(result.out)} == {1986}
    (again, *_) = json.loads(scoring("score", tmp_path, "--only-unscored", "--json").out)
    assert again["stored"]


def test_many_long_prompts_are_summed_up(scoring: Command, tmp_path: Path) -> None:
    for number in range(8):
        save(tmp_path / f"{number}.png", number, f"{number} " + "red " * 30)
    notes = [line for line in scoring("score", tmp_path).err.splitlines() if line.startswith("note: ")]
    assert len(notes) == 6
    assert notes[-1] == "note: 3 more prompts longer than what tiny reads (see --json for each)"


def test_a_score_that_cannot_be_written_is_shown_all_the_same(scoring: Command, gallery: Path) -> None:
    (gallery / "2.png").chmod(0o444)
    picture().save(gallery / "7.bmp")
    result = scoring("score", gallery, "--prompt", "a fox", "--write")
    assert result.code == 1
    assert len(result.out.splitlines()) == 7
    assert result.errors == [
        f"error: {gallery / '2.png'}: is read-only, so no score was written into it",
        f"error: {gallery / '7.bmp'}: a score can be written into PNG, JPEG and WebP files only",
    ]


def test_half_a_letter_in_one_files_text_ends_no_batch(scoring: Command, tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("parameters", 'Steps: 1, Tiny: 0.5, Tiny hash: 1a2b3c4d5e, Tiny prompt: "\\ud800 cat"')
    picture(1).save(tmp_path / "b.png", pnginfo=info)
    paths = [save(tmp_path / "a.png"), tmp_path / "b.png", save(tmp_path / "c.png")]
    result = scoring("score", *paths, "--write", "--json")
    assert (result.code, result.err) == (0, "")
    assert [record["prompt"] for record in json.loads(result.out)][1] == "\N{REPLACEMENT CHARACTER} cat"
    assert all(records.read(path).mark("Tiny").value != 0.5 for path in paths)


def test_a_text_that_cannot_be_read_is_never_written_over(
    scoring: Command, command: Command, tmp_path: Path
) -> None:
    path = save(tmp_path / "a.png", prompt=None)
    data = path.read_bytes()
    path.write_bytes(data[:33] + png_chunk(b"iTXt", b"parameters\0\0\0\0\0a red f\xffx") + data[33:])
    before = path.read_bytes()
    (line,) = scoring("score", path, "--write").errors
    assert line == f'error: {path}: its text "parameters" is no UTF-8 (byte 7); give one with --prompt'
    result = scoring("score", path, "--prompt", "a fox", "--write", "--json")
    (record,) = json.loads(result.out)
    assert record["score"] is not None
    assert record["error"].endswith("nothing is written over it")
    assert path.read_bytes() == before
    assert 'not read whole: its text "parameters" is no UTF-8 (byte 7)' in command("info", path).out


def test_a_disk_that_fills_up_spoils_no_file(
    scoring: Command, gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in sorted(gallery.iterdir())}
    room = iter([True, True, False, False, False, False])
    fsync = os.fsync

    def flush(file: int) -> None:
        if not next(room):
            raise OSError(28, "No space left on device")
        fsync(file)

    monkeypatch.setattr(os, "fsync", flush)
    result = scoring("score", gallery, "--write")
    assert result.code == 1
    assert len(result.out.splitlines()) == 6
    assert [error.rsplit(": ", 1)[1] for error in result.errors] == [
        "not written, No space left on device"
    ] * 4
    after = {path.name: path.read_bytes() for path in gallery.iterdir()}
    assert [name for name in before if after[name] == before[name]] == ["2.png", "3.png", "4.png", "5.png"]
    assert set(after) == set(before)


def test_an_image_that_the_scorer_fails_on_takes_no_other_with_it(
    scoring: Command, gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = EmbeddingScorer.score

    def failing(self: Any, images: Sequence[Image.Image], prompts: Sequence[str], *rest: Any) -> list[float]:
        if any(prompt.endswith("3") for prompt in prompts):
            raise ScoringError("no opinion")
        return [
            math.nan if prompt.endswith("4") else value
            for prompt, value in zip(prompts, score(self, images, prompts), strict=True)
        ]

    monkeypatch.setattr(EmbeddingScorer, "score", failing)
    result = scoring("score", gallery)
    assert result.code == 1
    assert len(result.out.splitlines()) == 4
    assert result.errors == [
        f"error: {gallery / '3.png'}: could not be scored (no opinion)",
        f"error: {gallery / '4.png'}: the scorer gave nan",
    ]


@pytest.mark.parametrize("limit", [1, 48 * 40 * 2])
def test_batches_and_their_limits_change_no_number(
    scoring: Command, gallery: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    whole = scoring("score", gallery, "--json").out
    monkeypatch.setattr(cli_scoring, "_BATCH_PIXELS", limit)
    parts = scoring("score", gallery, "--json").out
    assert [r["score"] for r in json.loads(parts)] == pytest.approx(
        [r["score"] for r in json.loads(whole)], abs=1e-5
    )


def test_nothing_to_score_is_no_success(scoring: Command, tmp_path: Path) -> None:
    result = scoring("score", tmp_path)
    assert (result.code, result.out) == (1, "")
    assert result.errors == [
        f"error: {tmp_path}: no images in this folder (--recursive looks into its folders)"
    ]


@pytest.mark.skipif(os.name == "nt", reason="a process of Windows cannot be sent Ctrl-C alone")
def test_ctrl_c_leaves_every_file_whole_and_says_how_far_it_got(tmp_path: Path, tiny_folder: Path) -> None:
    content = save(tmp_path / "0.png").read_bytes()
    for number in range(1, 400):
        (tmp_path / f"{number}.png").write_bytes(content)
    arguments = [
        tmp_path,
        "--write",
        "--json",
        "--batch-size",
        "1",
        "--scorer",
        tiny_folder,
        "--device",
        "cpu",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "imagereward_ext", "score", *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs ignore Ctrl-C, and their children with them.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 130
    done = len(json.loads(first + out))
    # It may have been stopped between writing, telling and counting.
    assert err in [
        f"stopped: {count} of 400 images done, all files are whole\n" for count in (done, done - 1)
    ]
    assert 0 < done < 400
    assert len(list(tmp_path.iterdir())) == 400
    marked = sum(records.read(path).mark("Tiny") is not None for path in tmp_path.iterdir())
    assert marked in (done, done + 1)
    for path in tmp_path.iterdir():
        open_image(path)


def watch(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note the prompts that reach a scorer."""
    seen: list[str] = []
    score = EmbeddingScorer.score

    def noted(self: Any, images: Sequence[Image.Image], prompts: Sequence[str], *rest: Any) -> list[float]:
        seen.extend(prompts)
        return score(self, images, prompts, *rest)

    monkeypatch.setattr(EmbeddingScorer, "score", noted)
    return seen
