"""Joined layers: the same images and gradients from less memory."""

from __future__ import annotations

import pytest
import torch

from imagereward_ext.diffusion import lora
from imagereward_ext.diffusion.lora import LoraShape
from imagereward_ext.diffusion.low_memory_layers import EnlargeConv, NormSiluConv
from tests.diffusion.tiny_models import tiny_parts

FAMILIES = ("sd1", "sd2", "sdxl")


def one_pass(parts, seed=2):
    """Predict and decode with gradient; return pixels, the gradient of the latents, and what was kept for it."""
    stream = torch.Generator().manual_seed(seed)
    latents = torch.randn(2, 4, 8, 8, generator=stream).requires_grad_()
    kept: dict[int, int] = {}

    def keep(tensor):
        if not isinstance(tensor, torch.nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        predicted = parts.predict(latents, torch.tensor([5, 500]), parts.encode(["a cat", "dogs"]))
        pixels = parts.decode(predicted)
    grown = torch.randn(pixels.shape, generator=stream)
    trained = parts.trainable()
    gradients = torch.autograd.grad((pixels * grown).sum(), [latents, *trained])
    return pixels, gradients, sum(kept.values())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_pixels_and_gradients_stay_the_same_and_less_is_kept(family, checkpointing, tmp_path):
    parts = tiny_parts(tmp_path, family)
    lora.inject(parts, LoraShape(rank=2), seed=0)
    with torch.no_grad():
        for parameter in parts.trainable():
            parameter.add_(0.05)
    pixels, gradients, kept = one_pass(parts)
    names = [name for name, _ in lora.layers(parts.unet)]
    if checkpointing:
        parts.checkpoint_gradients()
    parts.use_low_memory_layers()
    again, found, less = one_pass(parts)
    torch.testing.assert_close(again, pixels, atol=1e-5, rtol=0)
    for one, other in zip(found, gradients, strict=True):
        assert (one - other).norm() < 3e-5 * other.norm()
    assert less < 0.8 * kept
    assert [name for name, _ in lora.layers(parts.unet)] == names, "what is exported keeps its names"


def test_every_layer_that_can_be_joined_is(tmp_path):
    from diffusers.models.resnet import ResnetBlock2D

    parts = tiny_parts(tmp_path)
    blocks = [m for n in (parts.unet, parts.vae.decoder) for m in n.modules() if isinstance(m, ResnetBlock2D)]
    parts.use_low_memory_layers()
    layers = [m for n in (parts.unet, parts.vae.decoder) for m in n.modules()]
    assert len(blocks) > 4
    assert sum(isinstance(m, NormSiluConv) for m in layers) == 2 * len(blocks) + 2
    assert sum(isinstance(m, EnlargeConv) for m in layers) >= 2


@pytest.mark.parametrize("size", [None, (9, 11)])
def test_enlarging_passes_the_gradient_to_where_every_pixel_came_from(size):
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(3, 4, 3, padding=1).requires_grad_(False)
    x = torch.randn(2, 3, 5, 6, dtype=torch.float32, requires_grad=True)
    how = {"scale_factor": 2.0} if size is None else {"size": size}
    wanted = conv(torch.nn.functional.interpolate(x, mode="nearest", **how))
    found = EnlargeConv(conv)(x, size)
    torch.testing.assert_close(found, wanted)
    weight = torch.randn_like(wanted)
    gradients = [
        torch.autograd.grad((out * weight).sum(), x, retain_graph=True)[0] for out in (found, wanted)
    ]
    torch.testing.assert_close(*gradients)
