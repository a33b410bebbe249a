"""Where tensors live. This host computes in 32 bit."""

from __future__ import annotations

import gc

import torch

from modules.shared import cmd_opts


def get_optimal_device_name() -> str:
    if torch.cuda.is_available() and "all" not in cmd_opts.use_cpu:
        return f"cuda:{cmd_opts.device_id}" if cmd_opts.device_id is not None else "cuda"
    return "cpu"


device = torch.device(get_optimal_device_name())


def torch_gc() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
