import csv
import io
from copy import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
from PIL import Image

from imagereward_ext.metadata import exif
from imagereward_ext.metadata.score_mark import ScoreMark, find_marks
from imagereward_ext.webui.job import plots, saved_files
from imagereward_ext.webui.job.instructions import Instructions
from imagereward_ext.webui.job.report import ANSWER
from imagereward_ext.webui.job.saved_files import (
    ExtrasScore,
    after_saved,
    before_saved,
    offer_file_name_token,
    score_of,
)
from imagereward_ext.webui.job.scored_image import ScoredImage
from imagereward_ext.webui.job.scoring_job import ScoringJob
from imagereward_ext.webui.options import ScoringRequest, Settings
from tests.tiny import picture
from tests.webui.services import Processing

LINE = "Steps: 2, Seed: 7, Size: 64x64"
PLAIN = f"a fox, red\n{LINE}"
MARKED = f"{PLAIN}, ImageReward: 0.5000, ImageReward hash: 0123456789"


def saving(image, p, text=MARKED, filename="x.png"):
    return SimpleNamespace(image=image, p=p, filename=str(filename), pnginfo={"parameters": text})


def scored_job(service, image):
    p = Processing(sd_model=None)
    job = ScoringJob(p, service, Settings(), ScoringRequest(), Instructions(), service.wish())
    job.images.append(ScoredImage(image, ScoreMark("ImageReward", 0.5, "0123456789")))
    return p


@pytest.fixture
def folder(service, tmp_path):
    """Where the Save button writes."""
    folder = tmp_path / "saved"
    folder.mkdir()
    service.host.options["outdir_save"] = str(folder)
    return folder


def test_a_mask_saved_after_its_image_loses_the_score(service):
    image = picture()
    p = scored_job(service, image)
    params = saving(image, p)
    before_saved(params)
    assert params.pnginfo["parameters"] == MARKED
    image.already_saved_as = "x.png"
    params = saving(picture(1), p)
    before_saved(params)
    assert params.pnginfo["parameters"] == PLAIN


def test_an_image_that_another_script_replaced_keeps_its_score(service):
    p = scored_job(service, picture())  # the one we scored is never saved
    params = saving(picture(1), p)
    before_saved(params)
    assert params.pnginfo["parameters"] == MARKED


def test_the_means_of_a_plot_go_with_its_saved_grid(monkeypatch):
    plot = plots.Plot(object(), tables=[[[1.0, 2.0], [None, 4.0]]])
    monkeypatch.setattr(plots, "_current", plot)
    first_cell = SimpleNamespace(extra_generation_params={ANSWER: {"cells": plot.tables}})
    another_job = SimpleNamespace(extra_generation_params={ANSWER: {"scores": [1.0]}})
    for p in (another_job, None):
        params = saving(picture(), p, PLAIN)
        before_saved(params)
        assert params.pnginfo["parameters"] == PLAIN
    params = saving(picture(), copy(first_cell), PLAIN)
    before_saved(params)
    assert params.pnginfo["parameters"] == (
        f"{PLAIN}, ImageReward row means: 1.5000 | 4.0000, ImageReward column means: 1.0000 | 3.0000"
    )


def test_a_plot_of_several_grids_saves_the_whole_first():
    plot = plots.Plot(object(), tables=[[[1.0]], [[3.0]]])
    said = [plot.fields_for_next_saved() for _ in range(4)]
    assert said[0] == {"ImageReward grid means": "1.0000 | 3.0000"}
    assert [fields.get("ImageReward row means") for fields in said[1:]] == ["1.0000", "3.0000", None]


def test_extras_write_into_the_originals_parameters():
    image = picture()
    ExtrasScore(ScoreMark("ImageReward", -0.25, "9876543210"), "a fox, red", 2).leave_on(image)
    params = saving(image, None)
    before_saved(params)
    assert params.pnginfo["parameters"] == f"{PLAIN}, ImageReward: -0.25, ImageReward hash: 9876543210"


def test_extras_write_into_an_image_that_has_no_parameters():
    image, mark = picture(), ScoreMark("ImageReward", -0.25, "9876543210")
    ExtrasScore(mark, "a fox, red").leave_on(image)
    params = SimpleNamespace(image=image, p=None, filename="x.png", pnginfo={"extras": "whatever"})
    before_saved(params)
    assert find_marks(params.pnginfo["parameters"]) == [replace(mark, prompt="a fox, red")]


def test_files_without_parameters_are_left_alone():
    params = SimpleNamespace(image=picture(), p=None, filename="x.png", pnginfo={})
    before_saved(params)
    assert params.pnginfo == {}


def test_the_save_button_writes_a_table_of_its_own(service, folder):
    button = SimpleNamespace(infotexts=[])
    for n in (1, 2):
        after_saved(saving(picture(), button, MARKED, folder / "2026" / f"{n}.png"), service)
    with (folder / "imagereward.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["filename"] for row in rows] == ["2026/1.png", "2026/2.png"]
    assert rows[0] == {
        "filename": "2026/1.png",
        "scorer": "ImageReward",
        "score": "0.5000",
        "hash": "0123456789",
        "prompt": "a fox, red",
        "seed": "7",
    }


def test_the_table_has_the_decimals_of_the_settings(service, folder):
    service.host.options["imagereward_decimals"] = 6
    text = MARKED.replace("0.5000", "-0.123456")
    after_saved(saving(picture(), SimpleNamespace(), text, folder / "1.png"), service)
    with (folder / "imagereward.csv").open(newline="", encoding="utf-8") as file:
        assert [row["score"] for row in csv.DictReader(file)] == ["-0.123456"]


@pytest.mark.parametrize("action", ["Replace", "Add number suffix"])
def test_a_host_that_numbers_taken_names_is_corrected(service, tmp_path, action):
    """It writes `7-2.png` and goes on telling `7.png`, which is another image's, to move or delete."""
    service.host.options["save_images_replace_action"] = action
    for name in ("7.png", "7-1.png", "7-2.png", "7-4.png"):
        (tmp_path / name).touch()
    image = picture()
    p = scored_job(service, image)
    image.already_saved_as = str(tmp_path / "7.png")
    after_saved(saving(image, p, filename=tmp_path / "7.png"), service)
    assert image.already_saved_as == str(tmp_path / ("7.png" if action == "Replace" else "7-2.png"))


@pytest.mark.parametrize("case", ["a job's own save", "another folder", "no score", "tables switched off"])
def test_nothing_else_is_in_the_table(service, folder, tmp_path, case):
    button, name, text = SimpleNamespace(), folder / "1.png", MARKED
    if case == "a job's own save":
        button = SimpleNamespace(sd_model=None)
    elif case == "another folder":
        name = tmp_path / "1.png"
    elif case == "no score":
        text = PLAIN
    else:
        service.host.options["save_write_log_csv"] = False
    after_saved(saving(picture(), button, text, name), service)
    assert list(folder.iterdir()) == []


def test_the_file_name_token(service):
    generator = SimpleNamespace(replacements={})
    nothing = object()
    service.host.options["imagereward_decimals"] = 2
    offer_file_name_token(generator, nothing, service)
    token = generator.replacements["imagereward"]
    image = picture()
    assert token(SimpleNamespace(image=image, p=None)) is nothing
    image.info["parameters"] = MARKED  # what the Save button reads back
    assert token(SimpleNamespace(image=image, p=None)) == "0.50"
    assert token(SimpleNamespace(image=as_jpeg(image), p=None)) == "0.50"
    ExtrasScore(ScoreMark("ImageReward", -1.0)).leave_on(image)
    assert token(SimpleNamespace(image=image, p=None)) == "-1.00"
    assert token(SimpleNamespace(image=image, p=scored_job(service, image))) == "0.50"
    assert score_of(picture(), scored_job(service, picture()), str) is None
    assert saved_files.score_of(None, None, str) is None
    service.host.options["imagereward_file_name_token"] = False
    offer_file_name_token(generator, nothing, service)
    assert generator.replacements == {}


def as_jpeg(image):
    """Return the image as the Save button of a host that saves JPEG reads it: its text is in the EXIF."""
    buffer = io.BytesIO()
    comment = exif.PREFIX + exif.with_user_comment(b"", image.info["parameters"])
    image.save(buffer, "JPEG", exif=comment)
    return Image.open(buffer)
