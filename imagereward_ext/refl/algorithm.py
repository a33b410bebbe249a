"""Algorithm 1 of the paper, from "draw t" to the update; the methods it is compared with take its L_pre alone.

Xu et al. 2023, "ImageReward: Learning and Evaluating Human Preferences for Text-to-Image Generation",
https://arxiv.org/abs/2304.05977. The order of the lines is the paper's. Everything is drawn from the seed, the update and
the sample, so that a batch is the same however it is split.
"""

from __future__ import annotations

from functools import partial

import torch

from imagereward_ext.diffusion.lora import adapters_disabled, merged_for_inference
from imagereward_ext.diffusion.sampling import guided, roll_out
from imagereward_ext.refl.losses import phi, squared_distance
from imagereward_ext.refl.methods import find_method
from imagereward_ext.refl.pool import Pool
from imagereward_ext.refl.session import Session
from imagereward_ext.training.engine import Figures, Optimise, Terms
from imagereward_ext.training.randomness import shuffled_index, stream


class Algorithm:
    """The body of the paper's loop, with the model, the reward and the data of a run."""

    def __init__(self, session: Session) -> None:
        self.config, self.parts, self.reward = session.config, session.parts, session.reward
        self.encodings, self.captions, self.settings = session.encodings, session.captions, session.settings
        self.method = find_method(session.config.method)
        self.phi = phi(self.config.phi, self.config.reward_cap)
        self.pool: Pool | None = None
        """The images to denoise, where the run has a use for them."""

    def update(self, step: int, optimise: Optimise) -> Figures:
        """Learn from one batch, as the run's method does."""
        return self.method.update(self, step, optimise)

    def both_updates(self, step: int, optimise: Optimise) -> Figures:
        """Learn from one batch by both updates of the paper, or by one on the sum of their losses."""
        batch = self.config.batch
        pretraining, reward_feedback = partial(self.pretraining, step), partial(self.reward_feedback, step)
        if not self.config.prior_weight:
            return optimise(reward_feedback, batch)
        if self.config.prior_update == "summed":
            return optimise(lambda samples: reward_feedback(samples) + pretraining(samples), batch)
        first = optimise(pretraining, batch)  # w_i <- w_i, by L_pre
        then = optimise(reward_feedback, batch)  # w_{i+1} <- w_i, by L_reward
        return {**then, "prior": first["prior"], "loss": first["loss"] + then["loss"]}

    def pretraining(self, step: int, samples: range) -> Terms:
        """L_pre: the diffusion model's own loss on images with captions; the other methods choose or weigh the images."""
        config, parts, device, pool = self.config, self.parts, self.parts.device, self.pool
        assert pool is not None

        # (txt, img) ~ D;  t ~ U{1..T};  noise ~ N(0, I)
        draws = [stream(config.seed, "pool", step, j) for j in samples]
        rows = [int(torch.randint(len(pool), (), generator=draw)) for draw in draws]
        timesteps = [int(torch.randint(parts.config.noise.steps, (), generator=draw)) for draw in draws]
        noises = [torch.randn(pool.latents.shape[1:], generator=draw) for draw in draws]

        # L_pre <- psi(txt, img)
        t, noise = torch.tensor(timesteps, device=device), torch.stack(noises).to(device)
        clean = pool.latents[rows].to(device, torch.float32)
        cond = self.encodings([self.captions[int(pool.prompts[row])] for row in rows])
        prediction = parts.predict(parts.schedule.add_noise(clean, noise, t), t, cond)
        loss = squared_distance(prediction, parts.schedule.target(clean, noise, t))

        terms = Terms(torch.zeros_like(loss))
        if self.method.rolls_out:
            terms.add("prior", loss, config.prior_weight)
        else:
            terms.add("denoising", loss, self.method.weights(pool.rewards)[rows].to(device))
        return terms

    def reward_feedback(self, step: int, samples: range) -> Terms:
        """L_reward: push the image that a random late step already promises towards a higher reward."""
        config, parts, settings = self.config, self.parts, self.settings

        # y ~ Y;  t ~ U{T1..T2}, as the index of the sampling step that takes the gradient
        prompts = [self.prompt(step * config.batch + j) for j in samples]
        t = [self.late_step(step, j) for j in samples]
        cond, negative = self.encodings.with_negative(prompts, config.guidance)

        # x_T ~ N(0, I);  for j = T, ..., t + 1: x_{j-1} <- LDM{x_j}, without gradient
        draws = [stream(config.seed, "roll-out", step, j) for j in samples]
        with merged_for_inference(parts):
            x = roll_out(parts, cond, negative, settings, draws, t)

        # x_{t-1} <- LDM{x_t}, with gradient
        prediction = guided(parts, x.latents, x.t, cond, negative, settings.guidance)

        # x_0 <- x_{t-1}: what the scheduler predicts from it
        clean = parts.schedule.clean(prediction, x.latents, x.t)

        # z <- x_0 decoded;  L_reward <- lambda * phi(r(y, z))
        rewards = self.reward(parts.decode(clean), prompts)
        terms = Terms(torch.zeros_like(rewards), {"reward": rewards.detach()})
        terms.parts["reward_squared"] = rewards.detach().float().pow(2)
        terms.add("phi", self.phi(rewards), config.reward_weight)

        # Not in the paper: stay near what the base would have predicted from the same latents.
        if config.kl_weight:
            with torch.no_grad(), adapters_disabled(parts):
                # Encoded anew: a trained text encoder speaks otherwise when its LoRA is disabled.
                cond, negative = self.encodings.with_negative(prompts, config.guidance)
                base = guided(parts, x.latents, x.t, cond, negative, settings.guidance)
            terms.add("kl", squared_distance(prediction, base), config.kl_weight)
        return terms

    def prompt(self, position: int) -> str:
        """Return the prompt at a position of the run: all of them in random order, again and again."""
        prompts = self.encodings.prompts
        return prompts[shuffled_index(self.config.seed, position, len(prompts))]

    def late_step(self, step: int, sample: int) -> int:
        """Draw t ~ U{T1..T2}."""
        draw = stream(self.config.seed, "late-step", step, sample)
        return int(torch.randint(self.config.first_step, self.config.last_step + 1, (), generator=draw))
