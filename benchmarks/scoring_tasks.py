"""What is measured about scorers. Each function runs in a process of its own, in either environment."""

from __future__ import annotations

import gc
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.gauges import Watch, added_memory, load_average, peak_resident, resident
from benchmarks.materials import PROMPTS, pictures

Figures = dict[str, Any]


def _side(name: str) -> Any:
    return import_module(f"benchmarks.{name}")


def first_score(side: str, folder: str, **options: Any) -> Figures:
    """From a bare Python to the first score: imports, loading, one image."""
    watch = Watch()
    module = _side(side)
    model = module.load(folder, **options)
    loaded = watch.read("loaded")
    module.score(model, pictures(1), PROMPTS[:1])
    return {**loaded, **watch.read("first_score"), "peak_mb": peak_resident(), "load": load_average()}


def several(side: str, folder: str, images: int, prompts: int, size: int = 512, **options: Any) -> Figures:
    """Images under one prompt and under several, with the machine's matrix products measured around them."""
    module = _side(side)
    model = module.load(folder, **options)
    pairs = pictures(images, size)
    module.score(model, pairs[:1], PROMPTS[:1])
    figures: Figures = {}
    if side == "ours":
        from benchmarks.ceiling import ceiling

        figures |= ceiling(model, images)
    watch = Watch()
    one = module.score(model, pairs, PROMPTS[:1])
    figures |= watch.read("one")
    if prompts > 1:
        watch = Watch()
        module.score(model, pairs, PROMPTS[:prompts])
        figures |= watch.read("several")
    if side == "ours":
        again = ceiling(model, images)
        figures = {k: (v + again[k]) / 2 if k in again else v for k, v in figures.items()}
    return {**figures, "scores": one, "load": load_average()}


def memory(side: str, folder: str, images: int, no_grad: bool = True, **options: Any) -> Figures:
    """Memory that scoring adds to a loaded and used scorer."""
    module = _side(side)
    model = module.load(folder, **options)
    pairs = pictures(images)
    module.score(model, pairs[:1], PROMPTS[:1])
    gc.collect()
    extra = {} if side == "ours" else {"no_grad": no_grad}
    with added_memory() as figures:
        module.score(model, pairs, PROMPTS[:1], **extra)
    return {**figures, "resident_mb": resident()}


def precisions(folder: str, images: int, prompts: int, rounds: int, fast: str, **options: Any) -> Figures:
    """The fast mode against single precision, on the same pictures, in turns."""
    from benchmarks import ours

    exact, quick = (ours.load(folder, precision=name, **options) for name in ("fp32", fast))
    pairs, texts = pictures(images, 256), PROMPTS[:prompts]
    times: dict[str, list[float]] = {"fp32": [], fast: []}
    processor: dict[str, list[float]] = {"fp32": [], fast: []}
    scores = {}
    for _ in range(rounds):
        for name, scorer in (("fp32", exact), (fast, quick)):
            ours.score(scorer, pairs[:1], texts[:1])
            watch = Watch()
            scores[name] = ours.score(scorer, pairs, texts)
            taken = watch.read("x")
            times[name].append(taken["x_s"])
            processor[name].append(taken["x_cpu_s"])
    return {"times": times, "processor": processor, "scores": scores}


def curve(
    side: str, folder: str, points: list[list[int]], seconds: float, clock: str, **options: Any
) -> Figures:
    """Time for (images, size, prompts) triples, until the next one would take longer than `seconds`."""
    module = _side(side)
    model = module.load(folder, **options)
    module.score(model, pictures(1), PROMPTS[:1])
    found: list[list[float]] = []
    work_before = taken = 0.0
    for images, size, prompts in points:
        work = images * max(1.0, size / 1024) * max(1.0, prompts / (4 if side == "ours" else 1))
        if found and taken * work / work_before > seconds:
            break
        pairs = pictures(images, size)
        texts = [f"{PROMPTS[n % len(PROMPTS)]} {n}" for n in range(prompts)]
        watch = Watch()
        module.score(model, pairs, texts)
        taken, work_before = watch.read("x")["x" + clock], work
        found.append([images, size, prompts, taken])
    return {"points": found}


def folder_of_images(scorer: str, images: str) -> Figures:
    """Score a folder as the command line does; how long, and how much of that inside the scorer."""
    import time

    from benchmarks import ours
    from imagereward_ext.cli.scoring import Request, score_files

    model = ours.load(scorer)
    paths = sorted(Path(images).glob("*.png"))
    score, busy = model.score, 0.0

    def timed(*arguments: Any, **named: Any) -> Any:
        nonlocal busy
        start = time.perf_counter()
        try:
            return score(*arguments, **named)
        finally:
            busy += time.perf_counter() - start

    model.score(pictures(1), PROMPTS[0])
    model.score = timed
    outcomes: list[Any] = []
    watch = Watch()
    score_files(Request(model), paths, outcomes.append)
    taken = watch.read("all")
    failed = [outcome.error for outcome in outcomes if outcome.score is None]
    if failed or len(outcomes) != len(paths):
        raise RuntimeError(f"{len(failed)} of {len(paths)} images were not scored: {failed[:1]}")
    return {**taken, "busy": busy / taken["all_s"], "images": len(paths)}


def cached_scores(scorer: str, images: str, cache: str) -> Figures:
    """Score items through the cache that `evaluate` and `compare` use, twice."""
    from benchmarks import ours
    from imagereward_ext.evaluation.scoring import Item, score_items

    model = ours.load(scorer)
    items = [Item(path, PROMPTS[0]) for path in sorted(Path(images).glob("*.png"))]
    figures: Figures = {"images": len(items)}
    for name in ("computed", "cached"):
        watch = Watch()
        score_items(items, [model], Path(cache))
        figures |= watch.read(name)
    return figures


def imports(side: str) -> Figures:
    """What a WebUI's start-up pays, on top of what a WebUI imports anyway."""
    import importlib.util
    import sys

    if side == "ours":
        from demo import start

        start.prepare(["--skip-install", "--data-dir", str(Path.cwd()), "--ckpt-dir", str(Path.cwd())])
        import webui  # noqa: F401  the small WebUI's own code, as a host has imported it
        from modules import scripts, shared  # noqa: F401

        sys.path.insert(0, str(start.ROOT))
    else:
        import numpy  # noqa: F401
        import PIL.Image  # noqa: F401
        import torch  # noqa: F401
    before, known = resident(), set(sys.modules)
    watch = Watch()
    if side == "ours":
        file = start.ROOT / "scripts" / "imagereward.py"
        spec = importlib.util.spec_from_file_location("imagereward_script", file)
        assert spec is not None and spec.loader is not None
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    else:
        _side(side).import_all()
    taken = watch.read("imports")
    heavy = {"transformers", "diffusers", "peft", "accelerate", "timm"}
    new = sorted({name.partition(".")[0] for name in set(sys.modules) - known} & heavy)
    return {**taken, "added_mb": resident() - before, "libraries": new}
