"""From a scorer's name (or folder, or file) to the loaded scorer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

import torch

from imagereward_ext.compute import Compute, Placement
from imagereward_ext.errors import WeightsError
from imagereward_ext.scorers.base import Scorer
from imagereward_ext.scorers.calibration import STANDARD, Calibration
from imagereward_ext.weights import catalogue, locate, model_folder
from imagereward_ext.weights.catalogue import Entry
from imagereward_ext.weights.spec import ScorerSpec
from imagereward_ext.weights.tensors import (
    BrokenWeightsError,
    Shapes,
    TensorFile,
    check,
    convert,
    is_copy,
    is_pickle,
    open_tensors,
    set_aside,
)
from imagereward_ext.wording import Say

_FOLDERS_ONLY = ("clip-mlp", "mix")
"""Architectures of which nothing is published: they come as model folders."""


def architectures() -> dict[str, str]:
    """List each architecture's module, which has its name and a function `build(source, placement) -> Scorer`.

    So one more published scorer is one file here and one row of the catalogue.
    """
    names = [*(entry.architecture for entry in catalogue.ENTRIES.values()), *_FOLDERS_ONLY]
    return {name: f"{__package__}.{name.replace('-', '_')}" for name in dict.fromkeys(names)}


@dataclass(frozen=True)
class Source:
    """All that is needed to build one scorer, wherever it came from."""

    name: str
    label: str
    architecture: str
    weights: Path
    companions: Mapping[str, Path] = field(default_factory=dict)
    mean: float = 0.0
    std: float = 1.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    report: Say = print
    spec: ScorerSpec = field(default_factory=ScorerSpec)
    """As it was asked for: what this scorer shares with others lies in the same places."""
    fetch_again: Callable[[], Path] | None = None
    """Brings a fresh copy of the weights; None when the file is the user's own."""

    @property
    def calibration(self) -> Calibration | None:
        """What standardises its scores: nothing has to where a mean and spread are taken out of them already."""
        return STANDARD if (self.mean, self.std) != (0.0, 1.0) else None

    def companion(self, role: str) -> Path:
        """Return one of the further files."""
        if role not in self.companions:
            raise WeightsError(
                f"{self.name} names no {role} among its companions; {self.architecture} needs one"
            )
        return self.companions[role]

    def open(self, expected: Shapes, what: str) -> TensorFile:
        """Open the weights once they are what they should be; a pickle is converted on the way."""
        try:
            file = open_tensors(self.weights)
        except BrokenWeightsError as error:
            file = open_tensors(self._replacement(error))
        check(file, expected, what)
        if not is_pickle(file.path):
            return file
        target = locate.converted(file.path)
        if locate.is_hub_cache(file.path):  # the hub's own folder is not ours to write to
            target = locate.places(self.spec.folder)[0] / target.name
        if target.is_file():
            if not is_copy(target, file.path):
                self.report(
                    f"{file.path.name} is read as it is: {target} is there already and is not marked as its copy. "
                    "Delete it if it is one"
                )
                return file
            copy = open_tensors(target)
            if locate.newest(file.path) == target and expected.items() <= copy.shapes.items():
                return copy
        self.report(f"Converting {file.path.name} once, to {target}")
        return convert(file, expected, target)

    def _replacement(self, error: BrokenWeightsError) -> Path:
        if self.fetch_again is None:
            raise error
        aside = set_aside(error.path)
        self.report(f"{error}. It was kept aside as {aside}.")
        try:
            return self.fetch_again()
        except WeightsError as no_copy:
            raise WeightsError(f"{error}. It was kept aside as {aside.name}. {no_copy}") from error


class _Module(Protocol):
    def build(self, source: Source, placement: Placement) -> Scorer: ...


def load_scorer(
    name: str | ScorerSpec = catalogue.DEFAULT,
    *,
    compute: Compute | None = None,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | None = None,
    folder: Path | str | None = None,
    download: bool = True,
    report: Say | None = None,
) -> Scorer:
    """Load a scorer by name, model folder or weights file.

    `folder` is searched for weights before all other places, and receives what is downloaded. `report` receives
    plain messages about work that takes time. Inside this project a :class:`ScorerSpec` and a :class:`Compute` take
    the place of the other words.
    """
    spec = (
        name if isinstance(name, ScorerSpec) else ScorerSpec(name, Path(folder) if folder else None, download)
    )
    compute = compute or Compute(device, precision, batch_size)
    source = find_source(spec, report)
    return build_scorer(source, compute.for_scoring())


def build_scorer(source: Source, placement: Placement) -> Scorer:
    """Build a scorer from its files."""
    module = cast(_Module, import_module(architectures()[source.architecture]))
    # A host may call from within inference mode; weights made there could never be trained against.
    with torch.inference_mode(False), torch.no_grad():
        scorer = module.build(source, placement)
    scorer.calibration = source.calibration
    return scorer


def find_source(spec: ScorerSpec, report: Say | None = None) -> Source:
    """Find (or bring) the files of a scorer without opening them."""
    report = report or (lambda message: None)
    found = spec.resolve()
    if isinstance(found, Entry):
        return _from_catalogue(found, spec, report)
    return (_from_folder if found.is_dir() else _from_file)(found, spec, report)


def _from_catalogue(entry: Entry, spec: ScorerSpec, report: Say) -> Source:
    def obtain_weights() -> Path:
        return spec.obtain(entry.weights, report)

    weights = obtain_weights()
    source = _source_of(entry, weights, spec, report)
    return source if locate.is_hub_cache(weights) else replace(source, fetch_again=obtain_weights)


def _from_file(path: Path, spec: ScorerSpec, report: Say) -> Source:
    """Take a lone weights file as ImageReward's; opening it will tell if it is something else."""
    entry = catalogue.ENTRIES[catalogue.DEFAULT]
    beside = replace(spec, folder=spec.folder or path.parent)
    return _source_of(entry, path, beside, report)


def _source_of(entry: Entry, weights: Path, spec: ScorerSpec, report: Say) -> Source:
    return Source(
        name=entry.name,
        label=entry.label,
        architecture=entry.architecture,
        weights=weights,
        companions={role: spec.obtain(file, report) for role, file in entry.companions.items()},
        mean=entry.mean,
        std=entry.std,
        settings=entry.settings,
        report=report,
        spec=spec,
    )


def _from_folder(path: Path, spec: ScorerSpec, report: Say) -> Source:
    config = model_folder.read_config(path)
    if config.architecture not in (known := architectures()):
        raise WeightsError(
            f"{path} has the architecture {config.architecture!r}; known are {', '.join(known)}"
        )
    return Source(
        name=config.name,
        label=config.label,
        architecture=config.architecture,
        weights=path / config.weights,
        companions={role: path / name for role, name in config.companions.items()},
        mean=config.mean,
        std=config.std,
        settings=config.settings,
        report=report,
        spec=spec,
    )
