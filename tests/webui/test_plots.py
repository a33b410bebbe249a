import weakref
from types import SimpleNamespace

from PIL import Image

from imagereward_ext.webui.job import plots
from imagereward_ext.webui.job.instructions import instructions_of
from imagereward_ext.webui.page.drawing import draw_score
from tests.hosts.fake_host import FakeHost
from tests.tiny import picture


class AxisOption:
    def __init__(self, label, type_, apply, cost=0.0, choices=None):
        self.label, self.type, self.apply, self.cost, self.choices = label, type_, apply, cost, choices


def job(title="X/Y/Z plot"):
    script = SimpleNamespace(title=lambda: title)
    return SimpleNamespace(script_args=(1,), scripts=SimpleNamespace(selectable_scripts=[script]))


def processed(score):
    image = picture()
    image.info["parameters"] = "x"
    return SimpleNamespace(images=[image]), {"scores": [score], "percentiles": [None]}


def test_axes_are_added_once_and_set_what_a_job_reads():
    host = SimpleNamespace(axis_options=[], AxisOption=AxisOption)
    for _ in range(2):
        plots.add_axes(host, lambda: ["tiny"])
    limit, scorer = host.axis_options
    p = SimpleNamespace()
    limit.apply(p, 0.5, [0.5])
    scorer.apply(p, "tiny", ["tiny"])
    assert instructions_of(p).axes == {"score": "On", "limit": 0.5, "filter_low": True, "scorer": "tiny"}
    assert scorer.cost > limit.cost and scorer.choices() == ["tiny"]


def test_cells_of_one_plot_share_it_and_the_next_plot_is_another():
    first, second = SimpleNamespace(xyz_plot_x=object()), SimpleNamespace(xyz_plot_x=object())
    assert plots.plot_of(job(), first) is plots.plot_of(job(), first)
    assert plots.plot_of(job(), second) is not plots.plot_of(job(), first)
    assert plots.plot_of(job("Prompt matrix"), first) is None
    assert plots.plot_of(SimpleNamespace(script_args=(0,), scripts=None), first) is None
    assert plots.plot_of(SimpleNamespace(), first) is None
    assert plots.plot_of(SimpleNamespace(script_args={}, scripts=None), first) is None, (
        "as a host's job begins"
    )


def test_the_grid_is_made_of_copies_with_scores_and_its_cells_are_remembered():
    plot = plots.plot_of(job(), SimpleNamespace(xyz_plot_x=object()))
    images = []
    for score in (1.0, 2.0, None, 4.0):
        result, answer = processed(score)
        plot.add_cell(result, answer, "" if score is None else f"{score:.2f}")
        images.append(result.images[0])
    drawn = plots.on_grid(images, 2, lambda image, text: text)
    assert drawn == ["1.00", "2.00", images[2], "4.00"]
    assert plot.tables == [[[1.0, 2.0], [None, 4.0]]]
    assert answer == {"scores": [], "percentiles": [], "cells": plot.tables}, "the answer tells all cells"


def test_a_plot_keeps_no_image_alive():
    plot = plots.plot_of(job(), SimpleNamespace(xyz_plot_x=object()))
    result, answer = processed(1.0)
    plot.add_cell(result, answer, "")
    image = weakref.ref(result.images[0])
    result.images.clear()
    assert image() is None


def test_other_grids_are_left_alone():
    images = [picture(1), picture(2)]
    for image in images:
        image.info["parameters"] = "x"
    assert plots.on_grid(images, 2, lambda image, text: text) == images


def test_the_score_is_drawn_at_the_lower_left_of_a_copy(tmp_path):
    image = Image.new("RGB", (64, 64), (200, 100, 50))
    drawn = draw_score(image, "-0.75", FakeHost(tmp_path))
    assert drawn.getpixel((63, 0)) == drawn.getpixel((63, 63)) == (200, 100, 50)
    assert drawn.getpixel((0, 63)) == (0, 0, 0)
    assert max(min(drawn.getpixel((x, y))) for x in range(40) for y in range(48, 64)) > 150, "light on dark"
    assert image.getpixel((0, 63)) == (200, 100, 50), "the user's own image stays as it is"
