"""Make the demo world's models again, from seeds: `python -m demo.build`.

Two lanes run side by side, each a process that computes on one core: one trains the autoencoder and then UNet and
text model, the other the towers that the scorers start from. Then each scorer trains in a lane of its own, on
rankings that need both. Every stage keeps its state in the work folder and goes on from there when it was stopped; delete
the folder to begin anew.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch

from demo.world import checkpoint

MODELS = Path(__file__).resolve().parent / "models"
LANES = (
    (("autoencoder", "diffusion"), ("demo-reward-towers", "demo-witness-towers")),
    (("demo-reward",), ("demo-witness",)),
)
"""What runs one after the other, what side by side, and what each lane does in turn."""
TOWERS = "-towers"
STAGES = tuple(stage for together in LANES for lane in together for stage in lane)


def main(arguments: list[str] | None = None) -> int:
    """Run the stages that were asked for, or all of them in their lanes."""
    parser = argparse.ArgumentParser(prog="python -m demo.build", description=__doc__)
    parser.add_argument(
        "--work", type=Path, default=Path("outputs/demo-build"), help="where states and data are kept"
    )
    parser.add_argument("--models", type=Path, default=MODELS, help="where the models are written")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of a lane (default: 1)")
    parser.add_argument(
        "--only", choices=STAGES, nargs="+", help="run these stages alone, one after the other"
    )
    options = parser.parse_args(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    if options.only:
        torch.set_num_threads(options.threads)
        for stage in options.only:
            timed(stage, options.work, options.models)
        return 0
    started = time.perf_counter()
    for together in LANES:
        shared = ["--work", options.work, "--models", options.models, "--threads", options.threads]
        commands = [[sys.executable, "-m", "demo.build", *shared, "--only", *lane] for lane in together]
        lanes = [subprocess.Popen([str(word) for word in command]) for command in commands]
        codes = [lane.wait() for lane in lanes]  # all of them, so that none is left behind
        if any(codes):
            return 1
    print(f"[build] all done: {(time.perf_counter() - started) / 60:.1f} min", flush=True)
    return 0


def timed(stage: str, work: Path, models: Path) -> None:
    """Run one stage and say what it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    if stage == "autoencoder":
        build_autoencoder(work)
    elif stage == "diffusion":
        build_diffusion(work, models)
    elif stage.endswith(TOWERS):
        build_towers(stage.removesuffix(TOWERS), work)
    else:
        build_scorer(stage, work, models)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"[build] {stage} done: {wall:.0f} s, {cpu:.0f} s of CPU", flush=True)


def build_autoencoder(work: Path) -> None:
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


def build_towers(name: str, work: Path) -> None:
    """Teach the towers that a scorer starts from to see and read."""
    from demo.world import scorers

    scorers.train_towers(scorers.training_named(name), work / "scorers")


def build_scorer(name: str, work: Path, models: Path) -> None:
    """Make rankings with the checkpoint, and train one scorer on them."""
    from demo.world import artist, scorers

    training = scorers.training_named(name)
    notes = scorers.train(training, work / "scorers", models, artist.load(models))
    print(f"[build] {training.name}: {json.dumps(notes, default=str)}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
