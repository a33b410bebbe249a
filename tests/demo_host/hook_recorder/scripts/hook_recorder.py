"""A test extension: it writes down which hook is called when, and gives the list away over HTTP.

It runs in the demo host and in a real AUTOMATIC1111 alike (put `tests/demo_host/hook_recorder` among its extensions).
"""

import gradio as gr
from modules import script_callbacks, scripts, shared

EVENTS = shared.__dict__.setdefault("_hook_recorder_events", [])  # survives "Reload UI"; this file does not


def note(event, **details):
    EVENTS.append({"event": event, **details})


def infotext_of_image(p, index, use_main_prompt=False, **context):
    """A value per image; None for the grid."""
    return None if use_main_prompt else f"image {index}"


class HookRecorder(scripts.Script):
    def title(self):
        return "Hook recorder"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        enabled = gr.Checkbox(False, label="Record hooks", elem_id=self.elem_id("enabled"))
        text = gr.Textbox("default", label="Text", elem_id=self.elem_id("text"))
        keep = gr.Number(-1, label="Keep", elem_id=self.elem_id("keep"))
        self.infotext_fields = [(text, "Recorder text")]
        self.paste_field_names = ["Recorder text"]
        return [enabled, text, keep]

    def before_process(self, p, enabled, text, keep):
        if enabled:
            note("before_process", text=text, keep=keep)

    def process(self, p, enabled, text, keep):
        if not enabled:
            return
        note("process", prompts=list(p.all_prompts), seeds=list(p.all_seeds))
        p.extra_generation_params["Recorder text"] = text
        p.extra_generation_params["Recorder image"] = infotext_of_image
        p.extra_generation_params["Recorder list"] = [f"item {i}" for i in range(len(p.all_prompts))]

    def before_process_batch(self, p, enabled, text, keep, batch_number, prompts, seeds, subseeds):
        if enabled:
            note("before_process_batch", batch=batch_number, prompts=list(prompts), seeds=list(seeds))

    def process_batch(self, p, enabled, text, keep, batch_number, prompts, seeds, subseeds):
        if enabled:
            note("process_batch", batch=batch_number, prompts=list(p.prompts))

    def process_before_every_sampling(self, p, enabled, text, keep, **kwargs):
        if enabled:
            note("process_before_every_sampling", names=sorted(kwargs), shape=list(kwargs["x"].shape))

    def before_hr(self, p, enabled, text, keep):
        if enabled:
            note("before_hr")

    def post_sample(self, p, ps, enabled, text, keep):
        if enabled:
            note("post_sample", count=len(ps.samples))

    def postprocess_batch(self, p, enabled, text, keep, images, batch_number):
        if enabled:
            note("postprocess_batch", batch=batch_number, shape=list(images.shape))

    def postprocess_batch_list(self, p, pp, enabled, text, keep, batch_number):
        if enabled:
            note("postprocess_batch_list", batch=batch_number, count=len(pp.images), prompts=list(p.prompts))

    def postprocess_image(self, p, pp, enabled, text, keep):
        if enabled:
            note("postprocess_image", index=p.batch_index, iteration=p.iteration)

    def postprocess_maskoverlay(self, p, ppmo, enabled, text, keep):
        if enabled:
            note("postprocess_maskoverlay", index=ppmo.index)

    def postprocess_image_after_composite(self, p, pp, enabled, text, keep):
        if enabled:
            note("postprocess_image_after_composite", index=p.batch_index, size=list(pp.image.size))

    def postprocess(self, p, processed, enabled, text, keep):
        if not enabled:
            return
        note("postprocess", images=len(processed.images), first=processed.index_of_first_image)
        if keep >= 0:  # take images out of the result, grid included, the way a filter does
            processed.images = processed.images[processed.index_of_first_image :][: int(keep)]
            processed.infotexts = processed.infotexts[processed.index_of_first_image :][: int(keep)]
            processed.index_of_first_image = 0
        if text == "raise":
            raise RuntimeError("a hook's failure is reported and stops nothing")


class TwoJobs(scripts.Script):
    """A dropdown script: it makes the job itself, twice."""

    def title(self):
        return "Two jobs"

    def ui(self, is_img2img):
        return [gr.Textbox("second", label="Second prompt", elem_id=self.elem_id("second"))]

    def run(self, p, second):
        from modules.processing import process_images

        note("run", second=second)
        processed = process_images(p)
        p.prompt = second
        again = process_images(p)
        processed.images += again.images
        processed.infotexts += again.infotexts
        return processed


def before_saved(params):
    note("before_image_saved", file=params.filename, has_infotext="parameters" in params.pnginfo)


def saved(params):
    note("image_saved", file=params.filename)


def started(demo, app):
    def events():
        return list(EVENTS)

    def forget():
        EVENTS.clear()
        return {}

    app.add_api_route("/hook-recorder/events", events, methods=["GET"])
    app.add_api_route("/hook-recorder/events", forget, methods=["DELETE"])


def tab():
    with gr.Blocks(analytics_enabled=False) as blocks:
        gr.Textbox("recorded", label="Recorder", elem_id="hook_recorder_text")
    return [(blocks, "Hook recorder", "hook_recorder")]


note("script_executed")
script_callbacks.on_before_image_saved(before_saved)
script_callbacks.on_image_saved(saved)
script_callbacks.on_app_started(started)
script_callbacks.on_ui_tabs(tab)
script_callbacks.on_before_ui(lambda: note("before_ui"))
script_callbacks.on_script_unloaded(lambda: note("script_unloaded"))
script_callbacks.on_ui_settings(
    lambda: shared.opts.add_option(
        "hook_recorder_option",
        shared.OptionInfo("as it was", "An option", section=("hook_recorder", "Hook recorder")),
    )
)
