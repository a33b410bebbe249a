"""Where tensors live. This host computes in 32 bit."""

from __future__ import annotations

import gc

import torch

from modules.shared import cmd_opts

device = torch.device("cuda" if torch.cuda.is_available() and "all" not in cmd_opts.use_cpu else "cpu")


def torch_gc() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
