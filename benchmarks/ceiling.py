"""How fast this machine multiplies the matrices of the network, and nothing else."""

from __future__ import annotations

import time
from typing import Any


def ceiling(scorer: Any, images: int) -> dict[str, float]:
    """Run every linear layer of the network once per batch on ready inputs; seconds and work for so many images.

    The products inside the attention and of the patches, 3 % of the work, are counted at the same speed. No norms, no
    softmax, no activations: what the scorer needs beyond its products is overhead.
    """
    import torch

    from benchmarks.materials import PROMPTS

    batch = min(scorer.batch_size, images)
    size, tokens = _lengths(scorer, PROMPTS[0])
    layers = [(m, _rows(name, size, tokens) * batch) for name, m in scorer.network.named_modules()
              if isinstance(m, torch.nn.Linear) and not name.startswith("head")]  # fmt: skip
    inputs = {(rows, m.in_features): torch.randn(rows, m.in_features, dtype=scorer.dtype, device=scorer.device)
              for m, rows in layers}  # fmt: skip
    measured = sum(2 * rows * m.in_features * m.out_features for m, rows in layers)
    work = measured + batch * _other_products(scorer.architecture, size, tokens)
    with torch.inference_mode():
        for timed in (False, True):
            start, cpu = time.perf_counter(), time.process_time()
            for layer, rows in layers if timed else layers[:8]:
                layer(inputs[rows, layer.in_features])
            if scorer.device.type == "cuda":
                torch.cuda.synchronize()
    scale = images / batch * work / measured
    return {
        "ceiling_s": (time.perf_counter() - start) * scale,
        "ceiling_cpu_s": (time.process_time() - cpu) * scale,
        "gflop": work / 1e9 * images / batch,
    }


def _other_products(a: Any, size: int, tokens: int) -> int:
    """Operations for one image: patches, then queries with keys and weights with values, in every attention."""
    patches = 2 * (size - 1) * 3 * a.patch_size**2 * a.vision_width
    seeing = 4 * size * size * a.vision_width * a.vision_layers
    reading = 4 * tokens * (tokens + size) * a.text_width * a.text_layers
    return int(patches + seeing + reading)


def _lengths(scorer: Any, prompt: str) -> tuple[int, int]:
    a = scorer.architecture
    return (a.image_size // a.patch_size) ** 2 + 1, int(scorer.tokenizer([prompt], scorer.device).mask.sum())


def _rows(name: str, image_tokens: int, text_tokens: int) -> int:
    """Tell how many rows a layer sees for one image: image tokens, or words where the text tower reads words."""
    of_image = (
        name.startswith("vision.") or "crossattention.self.key" in name or "crossattention.self.value" in name
    )
    return image_tokens if of_image else text_tokens
