"""What is measured about scoring on a GPU."""

from __future__ import annotations

import time
from statistics import median
from typing import Any


def throughput(folder: str, device: str, precision: str, batches: list[int]) -> dict[str, Any]:
    """Images a second at each batch size, and memory on the device."""
    import torch

    from benchmarks import ours
    from benchmarks.materials import PROMPTS, pictures

    scorer = ours.load(folder, device=device, precision=precision)
    weights = torch.cuda.memory_allocated() / 2**30
    speeds = {}
    for batch in batches:
        scorer.batch_size = batch
        images = pictures(batch)
        scorer.score(images, PROMPTS[0])
        torch.cuda.synchronize()
        taken = []
        for _ in range(5):
            start = time.perf_counter()
            scorer.score(images, PROMPTS[0])
            torch.cuda.synchronize()
            taken.append(time.perf_counter() - start)
        speeds[str(batch)] = batch / median(taken)
    return {
        "images_per_s": speeds,
        "weights_gb": weights,
        "peak_gb": torch.cuda.max_memory_allocated() / 2**30,
    }
