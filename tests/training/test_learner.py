"""The optimiser's step, and the loss scaling around it, which needs no GPU to be right."""

from __future__ import annotations

import math

import pytest
import torch

from imagereward_ext.training import loss_scale
from imagereward_ext.training.learner import DivergedError, Learner, adamw
from imagereward_ext.training.loss_scale import FIRST, LossScale
from imagereward_ext.training.states import States

FP16_MAX = 65504.0


class Alone:
    def sum(self, tensors):
        """One process: there is nothing to add."""


def learner(half):
    return Learner(adamw([torch.nn.Parameter(torch.tensor([1.0, 2.0]))], 0.1, 0.0), 1.0, half)


def through_fp16(parameter, factor):
    """A loss whose gradient passes through fp16, as it does in the frozen networks."""
    return (parameter.half() * torch.tensor(factor).half()).sum().float()


def step(found, loss):
    found.backward(loss)
    return found.step(Alone())


def test_a_gradient_that_fp16_cannot_hold_arrives_when_the_loss_is_scaled():
    tiny = 2.0**-30
    plain, scaled = learner(False), learner(True)
    for found in (plain, scaled):
        (parameter,) = found.parameters
        norm = step(found, through_fp16(parameter, 1.0) * tiny)
        assert norm == (pytest.approx(tiny * 2**0.5) if found is scaled else 0)
    assert torch.equal(plain.parameters[0], torch.tensor([1.0, 2.0]))
    assert (scaled.parameters[0] < torch.tensor([1.0, 2.0])).all()


def test_scaled_and_unscaled_steps_are_the_same_to_the_last_bit():
    plain, scaled = learner(False), learner(True)
    norms = [[step(found, (found.parameters[0] ** 2).sum()) for _ in range(3)] for found in (plain, scaled)]
    assert norms[0] == norms[1]
    assert torch.equal(plain.parameters[0], scaled.parameters[0])


def test_what_overflows_is_left_out_and_tried_with_less_until_it_fits():
    found = learner(True)
    (parameter,) = found.parameters
    before, norms = parameter.detach().clone(), []
    while not norms or not math.isfinite(norms[-1]):
        assert torch.equal(parameter, before), "a step that overflowed changes nothing"
        norms.append(step(found, through_fp16(parameter, 8.0)))
    assert len(norms) == 5
    assert found.scale.value * 8 <= FP16_MAX < found.scale.value * 16
    assert (parameter < before).all()


def test_gradients_that_are_no_numbers_at_any_scale_end_the_run():
    for half, steps in ((False, 1), (True, 27)):
        found = learner(half)
        taken = 0
        with pytest.raises(DivergedError, match="not finite"):
            while taken < 100:
                taken += 1
                step(found, (found.parameters[0] * math.nan).sum())
        assert taken == steps


def test_the_scale_grows_again_after_a_long_time_and_goes_with_the_state(monkeypatch, tmp_path):
    monkeypatch.setattr(loss_scale, "STEPS_TO_GROW", 3)
    found = learner(True)
    (parameter,) = found.parameters
    step(found, (parameter * math.inf).sum())
    assert found.scale.value == FIRST / 2
    for _ in range(2):
        step(found, parameter.sum())
    states = States(tmp_path)
    states.write(found.state(2, {}))
    again = learner(True)
    again.load(states.read(2))
    assert again.scale.value == FIRST / 2
    step(again, again.parameters[0].sum())
    assert again.scale.value == FIRST
    assert LossScale(False).state_dict() == {}


def test_a_state_of_pytorchs_own_scaler_goes_on_where_it_was(tmp_path):
    states = States(tmp_path)
    states.write(learner(True).state(2, {}))
    file = states.path(2) / "learner.pt"
    state = torch.load(file, weights_only=True)
    earlier = {"scale": 512.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2000}
    torch.save(
        state | {"scaler": earlier | {"_growth_tracker": loss_scale.STEPS_TO_GROW - 1}},
        file,
    )
    found = learner(True)
    found.load(states.read(2))
    assert found.scale.value == 512
    step(found, found.parameters[0].sum())
    assert found.scale.value == 1024
