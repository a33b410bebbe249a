"""The main job without a browser: generate, score, keep what passes, and say what became of every image."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from demo import start
from demo.world.configs import GUIDANCE

ALWAYS_ON_TITLE = "ImageReward scoring"
REJECTED_FOLDER = "rejected"
PASSED, REJECTED = "passed", "rejected"


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The job's own options; whatever else is given goes to the host."""
    parser = argparse.ArgumentParser(
        prog="demo",
        description=__doc__,
        epilog="Every other option goes to the WebUI: demo --help.",
        allow_abbrev=False,
    )
    # Optional for argparse alone, so that --once --help finds its way to the help.
    parser.add_argument("--once", metavar="PROMPT", nargs="?", required=True, help="what to draw")
    parser.add_argument("--count", type=positive, default=8, help="how many images (default: 8)")
    parser.add_argument("--limit", type=float, default=None, help="reject images that score lower")
    parser.add_argument("--best", type=int, default=0, help="keep only so many, the best ones (default: all)")
    parser.add_argument("--seed", type=int, default=-1, help="seed of the first image (default: random)")
    parser.add_argument("--steps", type=positive, default=20, help="sampling steps (default: 20)")
    parser.add_argument("--cfg", type=float, default=GUIDANCE, help="guidance (default: %(default)g)")
    options, flags = parser.parse_known_args(arguments)
    if not options.once:
        parser.error('--once takes a prompt, such as --once "a red circle on a blue background"')
    return options, flags


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def main(arguments: list[str]) -> int:
    options, flags = parse(arguments)
    start.prepare(["--skip-install", *flags])
    images = generate(options)
    rows = [row(image) for image in images]
    print(table(rows))
    passed = sum(verdict == PASSED for _, verdict, _ in rows)
    print(f"{passed} of {len(rows)} images passed.")
    return 0 if rows and all(score for score, _, _ in rows) else 1


def generate(options: argparse.Namespace) -> list[Any]:
    """Run the job through the host's API, in this process. Returns the images it saved, in their order."""
    import webui  # the host's: importable since start.prepare()
    from fastapi import FastAPI
    from modules import script_callbacks, scripts
    from modules.api.api import Api, Txt2ImgRequest
    from modules.call_queue import queue_lock

    webui.initialize()
    script_callbacks.before_ui_callback()
    api = Api(FastAPI(), queue_lock)
    if not any(script.title() == ALWAYS_ON_TITLE for script in scripts.scripts_txt2img.alwayson_scripts):
        raise SystemExit("The extension could not be loaded; the reason stands above.")
    saved: list[Any] = []
    script_callbacks.on_image_saved(lambda params: saved.append(params.image))
    wish = {"score": "On", "keep_best": options.best}
    if start.scorer() is not None:
        wish["scorer"] = start.scorer()
    if options.limit is not None:
        wish |= {"filter_low": True, "limit": options.limit}
    size = webui.ui.native_size()
    request = Txt2ImgRequest(
        prompt=options.once,
        n_iter=options.count,
        seed=options.seed,
        steps=options.steps,
        cfg_scale=options.cfg,
        width=size,
        height=size,
        save_images=True,
        send_images=False,
        alwayson_scripts={ALWAYS_ON_TITLE: {"args": [wish]}},
    )
    api.text2imgapi(request)
    return [image for image in saved if not Path(image.already_saved_as).name.startswith("grid-")]


def row(image: Any) -> tuple[str, str, str]:
    """(score as it stands in the file, verdict, path): the extension may have moved the file since it was saved."""
    from imagereward_ext.metadata import records

    path = Path(image.already_saved_as)
    marks = records.read(path).marks()
    rejected = path.parent.name == REJECTED_FOLDER
    return f"{marks[0].value:+.4f}" if marks else "", REJECTED if rejected else PASSED, shown_path(path)


def shown_path(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def table(rows: list[tuple[str, str, str]]) -> str:
    lines = [("score", "verdict", "path"), *rows]
    widths = [max(len(line[i]) for line in lines) for i in (0, 1)]
    return "\n".join(
        f"{score:>{widths[0]}}  {verdict:<{widths[1]}}  {path}" for score, verdict, path in lines
    )
