"""Frozen convolutions that keep a third of the memory for the backward pass, and give the same gradient.

Before most convolutions of these networks stand a norm and an activation, or an enlargement. PyTorch keeps what each of
them got for the backward pass; in the decoder, at full image size, these are the largest tensors of a training. What the
norm got is enough: the rest is cheap to compute again, and a frozen convolution passes the gradient on without it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, silu
from torch.nn.grad import conv2d_input


def use_low_memory_layers(network: Any) -> None:
    """Join layers in a frozen UNet or decoder, wherever they follow each other. Names of layers change."""
    from diffusers.models.resnet import ResnetBlock2D

    for module in list(network.modules()):
        if isinstance(module, ResnetBlock2D) and _is_plain(module):
            _join_resnet(module)
        for place, layer in enumerate(getattr(module, "upsamplers", None) or []):
            if layer.name == "conv" and layer.use_conv and layer.interpolate and layer.norm is None:
                module.upsamplers[place] = EnlargeConv(layer.conv)
    if network.conv_norm_out is not None and isinstance(network.conv_act, nn.SiLU):
        network.conv_out = NormSiluConv(network.conv_norm_out, network.conv_out)
        network.conv_norm_out = network.conv_act = nn.Identity()


def _is_plain(block: Any) -> bool:
    """Whether the block is like all of Stable Diffusion's: nothing stands between norm, SiLU and convolution."""
    direct = (
        block.upsample is None and block.downsample is None and block.time_embedding_norm != "scale_shift"
    )
    return direct and isinstance(block.nonlinearity, nn.SiLU)


def _join_resnet(block: Any) -> None:
    block.conv1, block.conv2 = NormSiluConv(block.norm1, block.conv1), NormSiluConv(block.norm2, block.conv2)
    if block.time_emb_proj is not None and not block.skip_time_act:
        block.time_emb_proj = nn.Sequential(block.nonlinearity, block.time_emb_proj)
    block.norm1 = block.norm2 = block.nonlinearity = nn.Identity()


class NormSiluConv(nn.Module):
    """Norm, SiLU and convolution as one layer, which keeps only what the norm gets."""

    def __init__(self, norm: nn.Module, conv: nn.Conv2d) -> None:
        super().__init__()
        self.norm, self.conv = norm, conv

    def forward(self, x: Tensor) -> Tensor:
        """Compute all three."""
        out: Tensor = _NormSiluConv.apply(x, self.norm, self.conv)  # type: ignore[no-untyped-call]
        return out


class _NormSiluConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: nn.Module, conv: nn.Conv2d) -> Tensor:
        ctx.save_for_backward(x)
        ctx.norm, ctx.conv = norm, conv
        out: Tensor = conv(silu(norm(x), inplace=True))
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        with torch.enable_grad():
            x = ctx.saved_tensors[0].detach().requires_grad_()
            normed = ctx.norm(x)
        passed = _back_through(ctx.conv, normed.shape, gradients[0])
        passed = torch.ops.aten.silu_backward(passed, normed.detach())
        return torch.autograd.grad(normed, x, passed)[0], None, None


class EnlargeConv(nn.Module):
    """Enlargement and convolution as one layer, which keeps nothing."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor, output_size: Any = None) -> Tensor:
        """Enlarge to twice the size, or to the one that is given, and convolve."""
        size = [2 * side for side in x.shape[2:]] if output_size is None else list(output_size)
        out: Tensor = _EnlargeConv.apply(x, size, self.conv)  # type: ignore[no-untyped-call]
        return out


class _EnlargeConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, size: list[int], conv: nn.Conv2d) -> Tensor:
        ctx.shape, ctx.size, ctx.conv = x.shape, size, conv
        out: Tensor = conv(interpolate(x, size=size, mode="nearest"))
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        passed = _back_through(ctx.conv, (*ctx.shape[:2], *ctx.size), gradients[0])
        return torch.ops.aten.upsample_nearest2d_backward(passed, ctx.size, ctx.shape), None, None


def _back_through(conv: nn.Conv2d, shape: Any, gradient: Tensor) -> Tensor:
    """Return the gradient of what a convolution got."""
    passed: Tensor = conv2d_input(  # type: ignore[no-untyped-call]
        shape, conv.weight, gradient, conv.stride, conv.padding, conv.dilation, conv.groups
    )
    return passed
