"""Learning from pairs of the base's own images: what is paired, which way it pushes, and what it is compared with."""

import pytest
import torch

from imagereward_ext.diffusion.checkpoint import read_tensors
from imagereward_ext.diffusion.lora import adapters_disabled
from imagereward_ext.errors import ScoringError
from imagereward_ext.refl.algorithm import Algorithm
from imagereward_ext.refl.pairs import Pairs, best_and_worst
from imagereward_ext.refl.plan import Scorers, Work, make_plan, work_per_image
from imagereward_ext.refl.pool import Pool
from imagereward_ext.refl.preference import preference, relative_gains
from imagereward_ext.refl.session import load_session, pool_prompts, read_inputs
from imagereward_ext.refl.training import resume
from imagereward_ext.settings import FieldError
from imagereward_ext.training.processes import Processes
from imagereward_ext.training.randomness import stream
from tests.refl.test_training import ROUNDING, events, run, same, stopped_after, weights
from tests.refl.two_processes import train_by_two
from tests.refl.world import PROMPTS, load_taste, silent, tiny_config

DPO = {"method": "dpo", "prior_images": 12, "images_per_prompt": 3, "beta": 100.0, "learning_rate": 1e-3}


def pool(prompts, rewards):
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(len(prompts), 4, 8, 8, generator=generator)
    return Pool(latents, torch.tensor(prompts), torch.tensor(rewards))


# ------------------------------------------------------------------------------------------------- what is paired


def test_the_best_is_paired_with_the_worst_of_the_same_prompt():
    pairs = best_and_worst(pool([7, 7, 7, 2, 2, 2], [0.0, 2.0, 1.0, -1.0, -3.0, -2.0]))
    assert (pairs.better.tolist(), pairs.worse.tolist()) == ([1, 3], [0, 4])


def test_a_prompt_whose_images_are_worth_the_same_is_left_out():
    pairs = best_and_worst(pool([0, 0, 1, 1, 2], [1.0, 1.0, 0.0, 0.5, 9.0]))
    assert (pairs.better.tolist(), pairs.worse.tolist()) == ([3], [2])


def test_a_pool_without_a_pair_is_one_clear_line():
    with pytest.raises(ScoringError, match="the 3 images of 2 prompts make no pair"):
        best_and_worst(pool([0, 0, 1], [1.0, 1.0, 2.0]))


# -------------------------------------------------------------------------------------------- which way it pushes


def algorithm(folder, **changes):
    """An algorithm with four pairs, and a LoRA that has already gone somewhere."""
    config = tiny_config(folder, **(DPO | changes))
    session = load_session(config, read_inputs(config), Processes(cpu=True), load_taste, print)
    made = Algorithm(session)
    encoded = [session.captions.index(text) for text in pool_prompts(config, session.captions)[::3]]
    made.pool = pool([number for number in encoded for _ in range(2)], [1.0, 0.0] * 4)
    return made


def leave_the_base(parts):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in parts.trainable():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


EVEN, ODD = torch.arange(0, 8, 2), torch.arange(1, 8, 2)


def test_a_step_against_the_gradient_prefers_the_better_and_swapped_pairs_push_the_other_way(
    tmp_path, monkeypatch
):
    made, parameters = algorithm(tmp_path), None
    gradients = []
    for pairs in (Pairs(EVEN, ODD), Pairs(ODD, EVEN)):
        terms = preference(made, pairs, 0, range(4))
        assert terms.total.tolist() == pytest.approx([0.6931] * 4, abs=1e-3), "a LoRA begins as nothing"
        parameters = list(made.parts.trainable())
        gradients.append(torch.autograd.grad(terms.total.mean(), parameters))
    assert max(float(g.abs().max()) for g in gradients[0]) > 0
    for ours, swapped in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, -swapped, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients[0], strict=True):
            parameter.sub_(1e-2 * gradient)
    calls = spied(made, monkeypatch)
    after = preference(made, Pairs(EVEN, ODD), 0, range(4))
    (latents, t, _, ours), (_, _, _, base) = calls
    better, worse = (errors(made, latents, t, ours) - errors(made, latents, t, base)).chunk(2)
    assert float(better.mean()) < float(worse.mean()), (
        "it errs less on the better images, or more on the worse"
    )
    assert float(after.total.detach().mean()) < 0.69
    assert float(after.parts["accuracy"].mean()) > 0.5


def errors(made, noised, t, prediction):
    """Mean squared errors against the noise of the first update's pairs."""
    return (prediction.detach() - noise_of(made, len(noised))).pow(2).flatten(1).mean(1)


def spied(made, monkeypatch):
    calls = []
    predict = made.parts.predict

    def spy(latents, t, cond):
        prediction = predict(latents, t, cond)
        calls.append((latents, t, cond, prediction))
        return prediction

    monkeypatch.setattr(made.parts, "predict", spy)
    return calls


def test_the_two_of_a_pair_get_the_same_noise_at_the_same_time(tmp_path, monkeypatch):
    made = algorithm(tmp_path)
    calls = spied(made, monkeypatch)
    preference(made, Pairs(EVEN, ODD), 0, range(4))
    preference(made, Pairs(EVEN, ODD), 1, range(4))
    (noised, t, _, _), (again, _, _, _) = calls[0], calls[1]
    assert torch.equal(noised, again), "the base sees what the model sees"
    assert torch.equal(t[:4], t[4:])
    assert len(set(t.tolist())) > 1
    differences = noised[:4] - noised[4:]  # the noise falls out, and only that does
    alpha, _ = made.parts.schedule.at(t[:4])
    shown = sorted((made.pool.latents[EVEN] - made.pool.latents[ODD]).flatten(1).sum(1).tolist())
    assert sorted((differences / alpha).flatten(1).sum(1).tolist()) == pytest.approx(shown, abs=1e-2)
    assert not torch.equal(noised, calls[2][0]), "another update draws other noise"


@pytest.mark.parametrize("text_encoder", [False, True])
def test_the_reference_is_the_base(text_encoder, tmp_path, monkeypatch):
    """Also where the LoRA has changed what the text encoder says."""
    made = algorithm(tmp_path, text_encoder=text_encoder)
    untouched = algorithm(tmp_path, text_encoder=text_encoder)
    leave_the_base(made.parts)
    calls = spied(made, monkeypatch)
    terms = preference(made, Pairs(EVEN, ODD), 0, range(4))
    (latents, t, _, ours), (_, _, _, reference) = calls
    rows = [
        int((made.pool.latents - clean).abs().sum((1, 2, 3)).argmin()) for clean in cleaned(made, latents, t)
    ]
    texts = [made.captions[number] for number in made.pool.prompts[rows].tolist()]
    with adapters_disabled(untouched.parts):
        base = untouched.parts.predict(latents, t, untouched.encodings(texts))
    torch.testing.assert_close(reference, base, atol=1e-5, rtol=0)
    assert ours.requires_grad and not reference.requires_grad
    assert float((ours - reference).abs().max()) > 1e-3
    assert terms.total.requires_grad


def noise_of(made, images):
    """Draw the noise of the first update's pairs again: the same for both halves."""
    noises = []
    for j in range(images // 2):
        draw = stream(made.config.seed, "pair", 0, j)
        torch.randint(made.parts.config.noise.steps, (), generator=draw)
        noises.append(torch.randn(made.pool.latents.shape[1:], generator=draw))
    return torch.stack(noises * 2)


def cleaned(made, noised, t):
    """Take the noise off again."""
    alpha, sigma = made.parts.schedule.at(t)
    return (noised - sigma * noise_of(made, len(noised))) / alpha


def test_beta_scales_the_margin(tmp_path):
    losses = []
    for beta in (1.0, 10.0):
        made = algorithm(tmp_path, beta=beta, hold=0.0)
        leave_the_base(made.parts)
        losses.append(preference(made, Pairs(EVEN, ODD), 0, range(4)).total.double())
    first, tenfold = (-torch.log(torch.expm1(loss)) for loss in losses)  # -log sigmoid, undone
    torch.testing.assert_close(tenfold, 10 * first, atol=1e-3, rtol=1e-2)


def test_gains_count_in_the_unit_of_what_the_base_errs():
    """Otherwise the last steps, where the base errs a hundred times as much, would decide alone."""
    model, base = torch.tensor([0.8, 0.5, 1.1, 0.5]), torch.tensor([1.0, 0.5, 1.0, 0.5])
    better, worse = relative_gains(model, base)
    assert better.tolist() == pytest.approx([0.2, 0.0])
    assert worse.tolist() == pytest.approx([-0.1, 0.0])
    for ours, scaled in zip((better, worse), relative_gains(model / 100, base / 100), strict=True):
        torch.testing.assert_close(ours, scaled)
    uneven, _ = relative_gains(torch.tensor([0.9, 3.0]), torch.tensor([1.0, 3.0]))
    assert uneven.tolist() == pytest.approx([0.05]), "both of a pair count in one unit, the mean of the two"


def test_any_distance_to_the_base_costs_what_hold_says(tmp_path, monkeypatch):
    made = algorithm(tmp_path, beta=50.0, hold=0.5)
    leave_the_base(made.parts)
    calls = spied(made, monkeypatch)
    terms = preference(made, Pairs(EVEN, ODD), 0, range(4))
    (latents, t, _, ours), (_, _, _, base) = calls
    unit = errors(made, latents, t, base).view(2, 4).mean(0)
    distance = (ours - base).detach().pow(2).flatten(1).mean(1).view(2, 4).mean(0) / unit
    torch.testing.assert_close(terms.parts["kl"], distance, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(
        terms.total.detach() - terms.parts["preference"], 0.5 * 25 * distance, rtol=1e-3, atol=1e-5
    )


def test_hold_keeps_the_lora_nearer_to_the_base(tmp_path):
    moved = [
        events(run(tmp_path, f"hold-{hold:g}", **(DPO | {"hold": hold}), updates=8), "check")[-1]["distance"]
        for hold in (0.0, 20.0)
    ]
    assert moved[1] < 0.8 * moved[0]


# ------------------------------------------------------------------------------------------------------ whole runs


def test_a_run_learns_its_pairs_without_the_rewards_gradient(tmp_path):
    outcome = run(tmp_path, **DPO, updates=12)
    first, *_, fourth, third, second, last = events(outcome, "update")
    assert first["preference"] == pytest.approx(0.6931, abs=1e-3)
    ending = (
        fourth,
        third,
        second,
        last,
    )  # one draw of noise alone says little: 0.50 to 0.53, by torch's version
    assert sum(update["preference"] for update in ending) / 4 < 0.55
    assert all(update["accuracy"] > 0.5 for update in ending)
    assert [path.name for path in outcome.folder.glob("pool-*")] == ["pool-0.safetensors"]


def test_the_pool_holds_so_many_images_of_each_prompt(tmp_path):
    outcome = run(tmp_path, **DPO, updates=1)
    tensors = read_tensors(outcome.folder / "pool-0.safetensors")
    counts = tensors["prompts"].bincount(minlength=len(PROMPTS))
    assert sorted(counts.tolist(), reverse=True)[:5] == [3, 3, 3, 3, 0]
    assert len(set(tensors["rewards"].tolist())) == 12


# A fifth of the usual rate, since rounding grows over four updates: a wrong gradient is ten times ROUNDING still.
WHOLE = DPO | {"learning_rate": 2e-4, "rounds": 2, "updates": 4}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Two rounds, so that the second pairs come from the model as trained so far."""
    folder = tmp_path_factory.mktemp("dpo")
    return folder, run(folder, "whole", **WHOLE)


def test_uneven_micro_batches_are_one_batch(reference):
    folder, whole = reference
    same(whole, run(folder, "uneven", **WHOLE, micro_batch=3))


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_resumed_run_ends_with_the_same_weights(cut, reference):
    folder, whole = reference
    name = f"cut-{cut}"
    assert stopped_after(folder, "update", cut, name, **WHOLE).ending == "asked"
    same(whole, resume(str(folder / "runs"), name, {}, load_taste, silent), atol=0)


def test_two_processes_are_one(reference):
    folder, whole = reference
    two = train_by_two(folder, "two", **WHOLE)
    ours, theirs = weights(whole), read_tensors(two / "two-000004.safetensors")
    for key in ours:
        torch.testing.assert_close(ours[key], theirs[key], atol=ROUNDING, rtol=0)


def test_refreshed_pairs_are_the_current_models(reference):
    folder, whole = reference
    base, refreshed = (read_tensors(whole.folder / f"pool-{number}.safetensors") for number in (0, 1))
    assert not torch.equal(base["latents"], refreshed["latents"])
    once = run(folder, "once", **(WHOLE | {"rounds": 1}))
    same_weights = all(torch.equal(a, weights(once)[key]) for key, a in weights(whole).items())
    assert not same_weights


def test_more_updates_on_resume_are_for_runs_whose_pairs_are_made_once(reference):
    folder, _ = reference
    with pytest.raises(FieldError, match="the rounds of a dpo run lie at shares of its updates"):
        resume(str(folder / "runs"), "whole", {"updates": 5}, load_taste, silent)
    run(folder, "longer", **DPO, updates=1)
    assert resume(str(folder / "runs"), "longer", {"updates": 2}, load_taste, silent).step == 2


def test_the_plan_counts_both_images_and_both_models(tmp_path):
    unet, vae, scorers = Work(1.0, 0.0, 1), Work(100.0, 0.0, 1), Scorers(1.0, 0.0)
    config = tiny_config(tmp_path, **DPO)
    assert work_per_image(config, unet, vae, scorers, False) == 8, "a backward pass is two forward ones"
    denoising = tiny_config(tmp_path, **(DPO | {"method": "reward-weighted"}))
    assert work_per_image(denoising, unet, vae, scorers, False) == 3
    told = "\n".join(make_plan(config, prompts=PROMPTS).lines())
    assert "images to learn from 12, 3 of a prompt, made before the first update" in told
