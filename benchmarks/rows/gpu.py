"""On a GPU: images a second and memory in both precisions, and ReFL on Stable Diffusion's own shapes."""

from __future__ import annotations

from benchmarks.bench import Bench, Line, Row

BATCHES = (1, 8, 32, 64)
PIXELS = {"sd1": (512,), "sdxl": (512, 1024)}


def measure(bench: Bench) -> Row:
    row = Row("On a GPU")
    if bench.device == "cpu":
        row.notes.append(
            "Not run: this machine has no GPU. `python -m benchmarks --only gpu --device cuda` measures it."
        )
        return row
    for precision in ("fp16", "fp32"):
        found = bench.run("gpu_tasks:throughput", folder=str(bench.scorer), device=bench.device, precision=precision,
                          batches=BATCHES)  # fmt: skip
        row.figures[precision] = found
        for batch, speed in found["images_per_s"].items():
            row.lines.append(Line(f"{precision}, batch {batch}", f"{speed:.1f} images/s"))
        row.lines.append(Line(f"{precision}, memory of the scorer", f"{found['weights_gb']:.2f} GB"))
        row.lines.append(Line(f"{precision}, most while scoring", f"{found['peak_gb']:.2f} GB"))
    from imagereward_ext.refl.fit import PRESETS

    for shape, sizes in PIXELS.items():
        for preset, (edge, images) in PRESETS[shape].items():  # type: ignore[index]
            for pixels in sorted({min(size, edge) for size in sizes}):
                name = f"ReFL, {shape}, {preset} GB preset, {pixels} px, {images} at once"
                found = bench.run("refl_tasks:our_step", scorer=str(bench.scorer), rounds=2, shape=shape, pixels=pixels,
                                  device=bench.device, precision="fp16", batch=images, checkpointing=True)  # fmt: skip
                row.figures[name] = found
                fits = found["gpu_peak_gb"] <= preset
                row.lines.append(Line(name, f"{found['step_s']:.2f} s, {found['gpu_peak_gb']:.2f} GB",
                                      target=f"at most {preset} GB", met=fits))  # fmt: skip
    return row
