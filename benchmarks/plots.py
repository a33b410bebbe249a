"""Three small plots of time against images, size and prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.rows.curves import AXES

LABELS = {
    "images": "images (512 px, one prompt)",
    "size": "side of the images, pixels",
    "prompts": "prompts per image",
}


def write(figures: dict[str, Any], folder: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    for name, sides in figures.items():
        figure, axes = plt.subplots(figsize=(4, 3), dpi=80)
        for side, runs in sides.items():
            points = [run["points"] for run in runs]
            count = min(map(len, points))
            times = [sorted(run[i][-1] for run in points)[len(points) // 2] for i in range(count)]
            axes.plot([point[AXES[name]] for point in points[0][:count]], times, marker="o", label=side)
        axes.set(
            xlabel=LABELS[name], ylabel="seconds", xscale="log", yscale="log" if name != "size" else "linear"
        )
        axes.set_xscale("log", base=2)
        axes.grid(alpha=0.3)
        axes.legend()
        figure.tight_layout()
        figure.savefig(folder / f"time-{name}.png")
        plt.close(figure)
