"""`train`: train a LoRA towards a scorer's taste."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagereward_ext.cli.exit_codes import ALL_GOOD, STOPPED
from imagereward_ext.cli.messages import say, show
from imagereward_ext.cli.scorer_options import add_weights_options, chosen_spec
from imagereward_ext.compute import Compute
from imagereward_ext.errors import UsageError
from imagereward_ext.settings import read_file, schema
from imagereward_ext.settings.flags import add_flags, given_flags
from imagereward_ext.training.record import RunRecord, endings_told

if TYPE_CHECKING:
    from imagereward_ext.scorers.base import Scorer

HELP = "train a LoRA that a scorer likes better"
DESCRIPTION = """\
Train a LoRA for a checkpoint, so that a scorer likes its images better (ReFL).

  train --checkpoint model.safetensors --prompts prompts.txt --name nicer --plan
  train --checkpoint model.safetensors --prompts prompts.txt --name nicer --lora-dir models/Lora
  train --name nicer --resume

Ctrl-C (or a file named stop in the run's folder) finishes the update and saves. While another training uses the
device, the WebUI's for instance, this one does not begin. Several GPUs or machines:
accelerate launch -m imagereward_ext train ...
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments: every setting is a flag with the same words."""
    from imagereward_ext.refl.config import TrainingConfig

    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="JSON file of settings; flags win over it"
    )
    parser.add_argument("--resume", action="store_true", help="continue the run of this name")
    parser.add_argument("--plan", action="store_true", help="say what the run would take, and end")
    parser.add_argument(
        "--share-device", action="store_true", help="train although another training uses the device"
    )
    add_weights_options(parser.add_argument_group("weights"))
    add_flags(parser, schema(TrainingConfig).values(), fill_in=False)


def run(arguments: argparse.Namespace) -> int:
    """Train; return 0 when the run ended by itself, 130 when it was asked to stop."""
    from imagereward_ext.refl.config import check_name, from_mapping

    given = _given(arguments)
    if arguments.config is not None:
        given = read_file(arguments.config) | given
    if arguments.resume:
        return _resume(arguments, given)
    if not given.get("name"):
        raise UsageError("the run has no name: give one with --name")
    check_name(given["name"])
    config = from_mapping(given)
    if arguments.plan:
        from imagereward_ext.refl.plan import make_plan

        for line in make_plan(config, arguments.weights_dir).lines():
            show(line)
        return ALL_GOOD
    from imagereward_ext.refl.training import train

    record = RunRecord(Path(config.output).expanduser() / config.name)
    with _at_work(record, config.cpu, arguments.share_device):
        return _end(train(config, _loader(arguments, config.cpu), TrainingLog(config.updates)))


def _resume(arguments: argparse.Namespace, given: dict[str, Any]) -> int:
    from imagereward_ext.refl.run_folder import RunFolder, resumed_config
    from imagereward_ext.refl.training import resume

    if not given.get("name"):
        raise UsageError("which run should be resumed? Name it with --name")
    output = given.get("output", "runs")
    folder = RunFolder.open(output, given["name"])
    stored, _ = folder.read_config()
    config = resumed_config(stored, given)
    load = _loader(arguments, config.cpu)
    with _at_work(RunRecord(folder.path), config.cpu, arguments.share_device):
        return _end(resume(output, given["name"], given, load, TrainingLog(config.updates)))


@contextmanager
def _at_work(record: RunRecord, cpu: bool, share_device: bool) -> Iterator[None]:
    """Keep this run and its device from every other training, and write how it goes."""
    from imagereward_ext.diffusion.requirements import require_training_packages
    from imagereward_ext.jobs.claim import training_claimed
    from imagereward_ext.training.processes import Processes

    require_training_packages()
    processes = Processes(cpu)
    told = endings_told(record) if processes.main else nullcontext()
    with training_claimed(record.folder, processes, share_device), told:
        yield


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that stand on the command line."""
    from imagereward_ext.refl.config import TrainingConfig

    return given_flags(arguments, schema(TrainingConfig).values())


def _loader(arguments: argparse.Namespace, cpu: bool) -> Any:
    """Return how scorers are loaded: on the training device."""

    def load(name: str) -> Scorer:
        from imagereward_ext.scorers import load_scorer

        return load_scorer(chosen_spec(arguments, name), compute=Compute.of_switch(cpu), report=say)

    return load


class TrainingLog:
    """Prints what happens; a progress bar on terminals, lines elsewhere."""

    def __init__(self, updates: int) -> None:
        self._updates = updates
        self._bar: Any = None

    def __call__(self, event: dict[str, Any]) -> None:
        """Show one event."""
        if event["kind"] == "update":
            if self._bar is None:
                from tqdm import tqdm

                self._bar = tqdm(total=self._updates, initial=event["step"] - 1, unit="update", disable=None)
            reward = f"reward {event['reward']:.3f}, " if "reward" in event else ""
            self._bar.set_postfix_str(f"{reward}loss {event['loss']:.3g}", refresh=False)
            self._bar.update()
        elif event["kind"] == "check":
            judge = f", judge {event['judge']:.3f}" if event["judge"] is not None else ""
            say(
                f"update {event['step']:,} of {self._updates:,}: reward {event['reward']:.3f}{judge}, diversity "
                f"{event['diversity']:.3f}, distance to the base {event['distance']:.3f}"
            )
        elif event["kind"] == "note":
            say(event["text"])
        elif event["kind"] == "end" and self._bar is not None:
            self._bar.close()


def _end(outcome: Any) -> int:
    if outcome.lora is not None or not outcome.lora_step:  # only the first of several processes speaks
        wrote = (
            f"Wrote {outcome.lora}"
            if outcome.lora
            else "No LoRA was written: the base is the best state so far"
        )
        show(f"{outcome.reason[:1].upper()}{outcome.reason[1:]}. {wrote}")
    return STOPPED if outcome.ending == "asked" else ALL_GOOD
