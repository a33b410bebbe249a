"""L_DPO: prefer the better image of a pair more than the base does.

Wallace et al. 2023, "Diffusion Model Alignment Using Direct Preference Optimization", https://arxiv.org/abs/2311.12908,
equation 14. Who says which image is better, :mod:`~imagereward_ext.refl.pairs` knows; nothing here asks a reward.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from imagereward_ext.diffusion.lora import adapters_disabled
from imagereward_ext.refl.algorithm import Algorithm
from imagereward_ext.refl.losses import squared_distance
from imagereward_ext.refl.pairs import Pairs
from imagereward_ext.training.engine import Terms
from imagereward_ext.training.randomness import shuffled_index, stream


def preference(algorithm: Algorithm, pairs: Pairs, step: int, samples: range) -> Terms:
    """Compare model and base on some pairs of the algorithm's pool."""
    config, parts, device, pool = algorithm.config, algorithm.parts, algorithm.parts.device, algorithm.pool
    assert pool is not None

    # (txt, better, worse) ~ D;  t ~ U{1..T};  one noise ~ N(0, I) for both, or it would decide between them
    chosen = [shuffled_index(config.seed, step * config.batch + j, len(pairs)) for j in samples]
    draws = [stream(config.seed, "pair", step, j) for j in samples]
    timesteps = [int(torch.randint(parts.config.noise.steps, (), generator=draw)) for draw in draws]
    noises = [torch.randn(pool.latents.shape[1:], generator=draw) for draw in draws]
    rows = torch.cat([pairs.better[chosen], pairs.worse[chosen]])
    t, noise = torch.tensor(timesteps * 2, device=device), torch.stack(noises * 2).to(device)

    # the errors of the model, and those of the base, the LoRA switched off, at the same noised images
    clean = pool.latents[rows].to(device, torch.float32)
    noised, target = parts.schedule.add_noise(clean, noise, t), parts.schedule.target(clean, noise, t)
    texts = [algorithm.captions[number] for number in pool.prompts[rows].tolist()]
    prediction = parts.predict(noised, t, algorithm.encodings(texts))
    with torch.no_grad(), adapters_disabled(parts):
        base = parts.predict(noised, t, algorithm.encodings(texts))  # a trained text encoder's base, too
    errors, base_errors = squared_distance(prediction, target), squared_distance(base, target)

    # L_DPO <- -log sigmoid(beta / 2 * (what the better gains - what the worse gains))
    better, worse = relative_gains(errors, base_errors)
    margin = config.beta / 2 * (better - worse)
    terms = Terms(torch.zeros_like(margin), {"accuracy": (margin.detach() > 0).float()})
    terms.add("preference", -F.logsigmoid(margin), 1.0)

    # Not in the paper: what moves both errors alike falls out of the margin, and nothing else would hold it.
    if config.hold:
        distance = relative_distance(prediction, base, base_errors)
        terms.add("kl", distance, config.hold * config.beta / 2)
    return terms


def relative_gains(model: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
    """Return by what share the model errs less than the base: on the better images (b,), and on the worse (b,).

    Both take squared errors, (2 b,), the better images first. The unit, which is not the paper's, is what the base errs
    on a pair: its errors fall by a factor of a hundred from the last steps to the first, where it is decided what an
    image shows, so that plain ones would leave the first steps no say.
    """
    better, worse = ((base - model) / _of_pairs(base)).chunk(2)
    return better, worse


def relative_distance(model: Tensor, base: Tensor, base_errors: Tensor) -> Tensor:
    """Mean squared distance of two predictions for a pair, (b,), in the unit of :func:`relative_gains`."""
    better, worse = (squared_distance(model, base) / _of_pairs(base_errors)).chunk(2)
    return (better + worse) / 2


def _of_pairs(errors: Tensor) -> Tensor:
    """Mean of the two of each pair, for both of them, (2 b,)."""
    better, worse = errors.chunk(2)
    return ((better + worse) / 2).repeat(2)
