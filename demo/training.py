"""How the demo world's model is trained: by `python -m demo.improve`, and by the ReFL tab as the demo first opens it."""

from __future__ import annotations

from typing import Any

from demo.world.configs import GUIDANCE

REWARD, WITNESS = "demo-reward", "demo-witness"
TRAINING_SEED, HELD_OUT_SEED = 81, 71

SETTINGS: dict[str, Any] = {
    "sampler": "ddim",
    "steps": 15,
    "first_step": 5,
    "last_step": 12,
    "guidance": GUIDANCE,
    "batch": 16,
    "micro_batch": 16,
    "updates": 250,
    "learning_rate": 7e-4,
    "kl_weight": 2e-4,
    "check_every": 10,
    "check_images": 32,
    "cpu": True,
}
"""What differs from the defaults of `train`: a model this small samples in fewer steps and learns faster."""

QUICK = SETTINGS | {"updates": 100, "learning_rate": 1e-3}
"""The same in some minutes, for somebody who tries the tab; docs/training.md has what it gives, among the learning rates."""
