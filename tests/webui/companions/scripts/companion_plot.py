"""As the WebUI's own X/Y/Z plot, for a host that has none: a cell per pair of values, drawn into one grid."""

from copy import copy
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
from modules import images, scripts, shared
from modules.paths_internal import script_path
from modules.processing import create_infotext, process_images
from PIL import Image


class AxisOption:
    def __init__(self, label, type, apply, cost=0.0, choices=None):
        self.label, self.type, self.apply, self.cost, self.choices = label, type, apply, cost, choices


def field(name):
    return lambda p, value, values: setattr(p, name, value)


# In the order of the host's own, as far as the scenarios name them by number.
axis_options = [
    AxisOption("Nothing", str, lambda p, value, values: None),
    AxisOption("Seed", int, field("seed")),
    AxisOption("Var. seed", int, field("subseed")),
    AxisOption("Var. strength", float, field("subseed_strength")),
    AxisOption("Steps", int, field("steps")),
]


class CompanionPlot(scripts.Script):
    def title(self):
        return "X/Y/Z plot"

    def show(self, is_img2img):
        return not (Path(script_path) / "scripts" / "xyz_grid.py").exists()

    def ui(self, is_img2img):
        labels = [option.label for option in axis_options]
        fields = []
        for axis in "XY":
            fields.append(gr.Dropdown(labels, value=labels[0], type="index", label=f"{axis} type"))
            fields.append(gr.Textbox("", label=f"{axis} values"))
        fields.append(gr.Dropdown(labels, value=labels[0], type="index", label="Z type"))
        fields.append(gr.Checkbox(False, label="Include Sub Images"))
        fields.append(gr.Checkbox(True, label="Use text inputs instead of dropdowns"))
        return fields

    def run(self, p, x_type, x_values, y_type, y_values, z_type, include_lone_images, as_text):
        p.do_not_save_grid = True
        x_axis, y_axis = axis_options[x_type], axis_options[y_type]
        xs, ys = values_of(x_axis, x_values), values_of(y_axis, y_values)
        shared.state.xyz_plot_x = SimpleNamespace(axis=x_axis, values=xs)
        plot, grid_infotext = None, ""
        for x, y in ((x, y) for y in ys for x in xs):
            job = copy(p)  # which shares its parameters with all other cells
            x_axis.apply(job, x, xs)
            y_axis.apply(job, y, ys)
            cell = process_images(job)
            if plot is None:
                plot = copy(cell)  # the first cell's answer is the whole plot's
                plot.images, plot.infotexts, plot.index_of_first_image = [], [], 1
                grid_infotext = create_infotext(job, job.all_prompts, job.all_seeds, job.all_subseeds)
            blank = Image.new("RGB", (cell.width, cell.height))
            plot.images.append(cell.images[0] if cell.images else blank)
            plot.infotexts.append(cell.infotexts[0] if cell.infotexts else "")
        grid = images.image_grid(plot.images, rows=len(ys))
        plot.images = [grid, *plot.images] if include_lone_images else [grid]
        plot.infotexts.insert(0, grid_infotext)
        if shared.opts.grid_save:
            images.save_image(
                grid,
                p.outpath_grids,
                "xyz_grid",
                info=grid_infotext,
                extension=shared.opts.grid_format,
                prompt=plot.all_prompts[0],
                seed=plot.all_seeds[0],
                grid=True,
                p=plot,
            )
        return plot


def values_of(axis, text):
    if axis.label == "Nothing":
        return [""]
    return [axis.type(value.strip()) for value in text.split(",")]
