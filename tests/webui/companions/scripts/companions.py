"""A test extension: scripts that do to a host what well-known extensions do, and a meter of the UNet's work.

It runs in the demo host and in a real WebUI alike (put `tests/webui/companions` among its extensions).
"""

import weakref
from copy import copy

import gradio as gr
from modules import images, script_callbacks, scripts, shared
from modules.processing import Processed, StableDiffusionProcessingImg2Img, create_infotext, process_images

NOTHING = {"work": 0, "unet": lambda: None}
METER = shared.__dict__.setdefault("_companions_meter", NOTHING)  # survives "Reload UI"


class Wildcards(scripts.Script):
    """As Dynamic Prompts: gives every image of a job a prompt of its own, once the host has made its list."""

    def title(self):
        return "Companion wildcards"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return [gr.Textbox("", label="Words for __word__", elem_id=self.elem_id("words"))]

    def process(self, p, words):
        if words:
            choices = words.split(",")
            template = p.prompt
            p.all_prompts = [
                text.replace("__word__", choices[i % len(choices)]) for i, text in enumerate(p.all_prompts)
            ]
            p.prompt_for_display = p.prompt = template


class FacePainter(scripts.Script):
    """As ADetailer: paints over every finished image with a job of its own, and calls hooks with copies."""

    def title(self):
        return "Companion face painter"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return [
            gr.Checkbox(False, label="Paint", elem_id=self.elem_id("paint")),
            gr.Checkbox(False, label="Save the image before", elem_id=self.elem_id("save-before")),
        ]

    def postprocess_image(self, p, pp, paint, save_before):
        if not paint or getattr(p, "_ad_inner", False) or shared.state.interrupted or shared.state.skipped:
            return
        if p.batch_index == 0:
            p.scripts.postprocess(copy(p), Processed(p, [], p.seed, ""))
        before = copy(pp.image)
        pp.image = process_images(self.inner_job(p, pp.image)).images[0]
        if save_before:
            self.save(p, before)
        if p.batch_index == p.batch_size - 1:
            again = copy(p)
            p.scripts.before_process(again)
            p.scripts.process(again)
        METER["painted"] = METER.get("painted", 0) + 1

    def save(self, p, image):
        """Under the image's own seed, with the parameters of the job's first one, while the image is being made."""
        text = create_infotext(p, p.all_prompts, p.all_seeds, p.all_subseeds)
        index = p.iteration * p.batch_size + p.batch_index
        seed, prompt = p.all_seeds[index], p.all_prompts[index]
        images.save_image(image, p.outpath_samples, "", seed, prompt, info=text, p=p, suffix="-before")

    def inner_job(self, p, image):
        job = StableDiffusionProcessingImg2Img(
            init_images=[image.convert("RGB")],
            denoising_strength=0.5,
            sd_model=p.sd_model,
            outpath_samples=p.outpath_samples,
            outpath_grids=p.outpath_grids,
            prompt="a face",
            seed=1,
            sampler_name=p.sampler_name,
            steps=4,
            width=image.width,
            height=image.height,
            extra_generation_params={
                key: value for key, value in p.extra_generation_params.items() if isinstance(value, str)
            },
            do_not_save_samples=True,
            do_not_save_grid=True,
        )
        job.scripts, job.script_args = copy(p.scripts), p.script_args  # with our own scoring in it
        job._ad_inner = job._ad_disabled = True
        return job


class Matrix(scripts.Script):
    """As the prompt matrix: a dropdown script with a list of prompts that counts on every image."""

    def title(self):
        return "Companion matrix"

    def ui(self, is_img2img):
        return [gr.Textbox("", label="Words", elem_id=self.elem_id("matrix-words"))]

    def run(self, p, words):
        choices = words.split(",")
        p.n_iter = -(-len(choices) // p.batch_size)
        p.do_not_save_grid = True
        p.prompt = [f"{p.prompt} {word}" for word in choices]
        p.seed = [p.seed] * len(choices)
        result = process_images(p)
        if len(result.images) != len(choices):
            raise RuntimeError("the captions of the matrix do not go with its images")
        return result


class Batch(scripts.Script):
    """As batch img2img: one job object, run once for each input picture, and the results strung together."""

    def title(self):
        return "Companion batch"

    def show(self, is_img2img):
        return is_img2img

    def ui(self, is_img2img):
        return [gr.Number(2, label="Pictures", elem_id=self.elem_id("pictures"))]

    def run(self, p, pictures):
        (picture,) = p.init_images
        together = None
        for number in range(int(pictures)):
            p.init_images = [picture.rotate(90 * number)]
            result = process_images(p)
            if together is None:
                together = result
            else:
                together.images += result.images
                together.infotexts += result.infotexts
        return together


def unet():
    model = shared.sd_model
    return getattr(getattr(model, "model", None), "diffusion_model", None)


def measure(module, arguments):
    METER["work"] += arguments[0].shape[0] * arguments[0].shape[-2] * arguments[0].shape[-1]


def started(demo, app):
    def work():
        """Evaluations of the UNet times latent pixels since the last call; null where it cannot be seen."""
        told = {"work": METER["work"], "painted": METER.get("painted", 0)}
        METER.update(work=0, painted=0)
        network = unet()
        if network is not METER["unet"]() and hasattr(network, "register_forward_pre_hook"):
            network.register_forward_pre_hook(measure)
            METER["unet"] = weakref.ref(network)  # it must not keep a network that the host lets go of
        return told if METER["unet"]() is not None else {**told, "work": None}

    app.add_api_route("/companions/meter", work, methods=["POST"])


script_callbacks.on_app_started(started)
