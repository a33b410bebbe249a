"""Everything random follows from (seed, what for, which update, which sample).

No stream has a state to save: a resumed run, another batch split and another number of processes draw the same.
"""

from __future__ import annotations

import hashlib
import random
from functools import lru_cache

import torch


def derived_seed(seed: int, *purpose: object) -> int:
    """Return a 63-bit seed for one purpose."""
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def stream(seed: int, *purpose: object) -> torch.Generator:
    """Return a random stream for one purpose."""
    return torch.Generator().manual_seed(derived_seed(seed, *purpose))


def shuffled_index(seed: int, position: int, count: int) -> int:
    """Return which of ``count`` items comes at ``position`` when they are shuffled anew for every pass."""
    epoch, place = divmod(position, count)
    return _order(seed, epoch, count)[place]


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> tuple[int, ...]:
    order = list(range(count))
    random.Random(derived_seed(seed, "order", epoch)).shuffle(order)
    return tuple(order)
