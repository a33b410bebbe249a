"""Where and in which type tensors live. This host computes in 32 bit."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

import torch

from modules.shared_cmd_options import cmd_opts


def get_optimal_device_name() -> str:
    if torch.cuda.is_available() and "all" not in cmd_opts.use_cpu:
        return f"cuda:{cmd_opts.device_id}" if cmd_opts.device_id is not None else "cuda"
    return "cpu"


def get_optimal_device() -> torch.device:
    return torch.device(get_optimal_device_name())


cpu = torch.device("cpu")
device = get_optimal_device()
dtype = dtype_vae = dtype_unet = torch.float32


def torch_gc() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextlib.contextmanager
def autocast(disable: bool = False) -> Iterator[None]:
    yield


without_autocast = autocast


class NansException(Exception):  # noqa: N818  # the name extensions catch
    pass


def test_for_nans(x: torch.Tensor, where: str) -> None:
    if torch.isnan(x).all():
        raise NansException(f"A tensor with all NaNs was produced in {where}.")
