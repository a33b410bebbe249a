"""Make the demo world's models again, from seeds: `python -m demo.build`.

Stages: autoencoder, diffusion (UNet and text model), then the two scorers. Each one keeps its state in the work
folder and goes on from there when it was stopped; delete the folder to begin anew.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from demo.world import checkpoint

MODELS = Path(__file__).resolve().parent / "models"
STAGES = ("autoencoder", "diffusion", "scorers")


def main(arguments: list[str] | None = None) -> None:
    """Run the stages that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m demo.build", description=__doc__)
    parser.add_argument(
        "--work", type=Path, default=Path("outputs/demo-build"), help="where states and data are kept"
    )
    parser.add_argument("--models", type=Path, default=MODELS, help="where the models are written")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    parser.add_argument("--only", choices=STAGES, help="run one stage alone; earlier ones must have run")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    stages = {"autoencoder": build_autoencoder, "diffusion": build_diffusion, "scorers": build_scorers}
    for name, stage in stages.items():
        if options.only in (None, name):
            wall, cpu = time.perf_counter(), time.process_time()
            stage(options.work, options.models)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            print(f"[build] {name} done: {wall:.0f} s, {cpu:.0f} s of CPU", flush=True)


def build_autoencoder(work: Path, models: Path) -> None:
    """Train the autoencoder, measure the scale of its latents, and sharpen the decoder."""
    from demo.world import autoencoder

    vae = autoencoder.train(work / "autoencoder.pt")
    scale = autoencoder.latent_scale(vae, autoencoder.drawings(200, seed=4)[1])
    vae = autoencoder.refine_decoder(vae, work / "decoder.pt")
    torch.save({"vae": vae.state_dict(), "scale": scale}, work / "autoencoder-done.pt")
    print(f"[build] latents are multiplied with {scale}", flush=True)


def build_diffusion(work: Path, models: Path) -> None:
    """Train UNet and text model, and write the checkpoint."""
    from diffusers import AutoencoderKL

    from demo.world import diffusion
    from demo.world.configs import VAE

    done = torch.load(work / "autoencoder-done.pt", weights_only=True)
    vae = AutoencoderKL(**VAE).eval().requires_grad_(False)
    vae.load_state_dict(done["vae"])
    unet, text = diffusion.train(vae, done["scale"], work / "diffusion.pt")
    file = checkpoint.write(models, unet, vae, text, done["scale"])
    print(f"[build] {file.name}: {file.stat().st_size / 2**20:.1f} MiB", flush=True)


def build_scorers(work: Path, models: Path) -> None:
    """Make rankings with the checkpoint, and train the scorers on them."""
    from demo.world import artist, scorers

    parts = artist.load(models)
    for training in scorers.TRAININGS:
        notes = scorers.train(training, work / "scorers", models, parts)
        print(f"[build] {training.name}: {json.dumps(notes, default=str)}", flush=True)


if __name__ == "__main__":
    main()
