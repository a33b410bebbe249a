"""Scorers as a metric of text-to-image models: mean score over the same prompts, and the ranking it gives."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagereward_ext.errors import ImageRewardError
from imagereward_ext.evaluation.plots import distribution_plot
from imagereward_ext.evaluation.report import Report, Table, left_out
from imagereward_ext.evaluation.scoring import Item, ScoreTable
from imagereward_ext.evaluation.statistics import ENOUGH_PROMPTS, Interval, mean_interval, spearman
from imagereward_ext.images import SUFFIXES
from imagereward_ext.storage import refuse_pipe

_FILE = re.compile(r"(?P<prompt>.+)_(?P<number>\d+)")


@dataclass(frozen=True)
class Generator:
    """A text-to-image model's images, in its folder's order, by prompt id."""

    name: str
    images: Mapping[str, list[Path]]


@dataclass(frozen=True)
class Standing:
    """How one model stands with one scorer."""

    mean: Interval
    place: int
    images: int
    prompts: int


@dataclass(frozen=True)
class Benchmark:
    """All models under all scorers."""

    standings: Mapping[str, Mapping[str, Standing]]
    """By scorer, then by model, the best first."""
    values: Mapping[str, Mapping[str, list[float]]]
    """Every score, by scorer and model."""
    correlation: Mapping[str, float]
    """Spearman's rho between the scorer's ranking and people's; empty without one."""


def read_prompts(path: Path) -> dict[str, str]:
    """Read prompts by id from a JSON list of `{"id", "prompt"}`."""
    try:
        refuse_pipe(path)
        records = json.loads(path.read_text(encoding="utf-8"))
        prompts = {str(record["id"]): str(record["prompt"]) for record in records}
    except OSError as error:
        raise ImageRewardError(f"the prompts {path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ImageRewardError(
            f'{path} is no prompt file: expected a JSON list of {{"id", "prompt"}}'
        ) from error
    if not prompts:
        raise ImageRewardError(f"{path} holds no prompts")
    return prompts


def read_generators(folders: Sequence[Path], prompts: Mapping[str, str]) -> list[Generator]:
    """Read folders of images named `<prompt id>_<n>.png`; one folder alone may hold the models' folders."""
    if len(folders) == 1 and folders[0].is_dir() and not _images_in(folders[0], prompts):
        folders = sorted(path for path in folders[0].iterdir() if path.is_dir()) or folders
    generators = []
    for folder in folders:
        if not folder.is_dir():
            raise ImageRewardError(f"{folder} is no folder; give one folder of images for each model")
        images = _images_in(folder, prompts)
        if not images:
            raise ImageRewardError(
                f"{folder} holds no image named <prompt id>_<n>, such as {next(iter(prompts))}_0.png"
            )
        generators.append(Generator(folder.name, images))
    names = [generator.name for generator in generators]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ImageRewardError(f"two folders are called {twice.pop()!r}; the folder's name is the model's")
    return generators


def items_of(generators: Sequence[Generator], prompts: Mapping[str, str]) -> list[Item]:
    """List the images to score."""
    return [Item(path, prompts[key]) for g in generators for key, paths in g.images.items() for path in paths]


def measure_generators(
    generators: Sequence[Generator],
    prompts: Mapping[str, str],
    scores: ScoreTable,
    human_places: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Benchmark:
    """Average each model's scores per prompt, then over prompts, as the published benchmark does."""
    standings: dict[str, dict[str, Standing]] = {}
    values: dict[str, dict[str, list[float]]] = {}
    for scorer in scores.scorers:
        table = scores.by_scorer[scorer]
        means, counts = {}, {}
        values[scorer] = {}
        for generator in generators:
            by_prompt = [
                [table[Item(path, prompts[key])] for path in paths if Item(path, prompts[key]) in table]
                for key, paths in generator.images.items()
            ]
            by_prompt = [group for group in by_prompt if group]
            if not by_prompt:
                raise ImageRewardError(f"no image of {generator.name} can be read")
            means[generator.name] = mean_interval([statistics.fmean(group) for group in by_prompt], seed=seed)
            counts[generator.name] = (sum(map(len, by_prompt)), len(by_prompt))
            values[scorer][generator.name] = [value for group in by_prompt for value in group]
        best_first = sorted(means, key=lambda name: -means[name].value)
        standings[scorer] = {
            name: Standing(means[name], place, *counts[name])
            for place, name in enumerate(best_first, start=1)
        }
    correlation = {}
    if human_places:
        for scorer, by_model in standings.items():
            shared = [name for name in by_model if name in human_places]
            correlation[scorer] = spearman(
                [-by_model[name].mean.value for name in shared], [human_places[name] for name in shared]
            )
    return Benchmark(standings, values, correlation)


def parse_human_ranking(text: str, names: Sequence[str]) -> dict[str, float]:
    """Read people's ranking of models: names from best to worst with commas, or a JSON file of places by name."""
    path = Path(text)
    if path.suffix.lower() == ".json":
        try:
            places = {
                str(name): float(place)
                for name, place in json.loads(path.read_text(encoding="utf-8")).items()
            }
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise ImageRewardError(
                f"the ranking {path} cannot be read as a JSON object of places: {error}"
            ) from error
    else:
        places = {name.strip(): float(place) for place, name in enumerate(text.split(","), start=1)}
    if unknown := [name for name in places if name not in names]:
        raise ImageRewardError(f"the human ranking names {unknown[0]!r}; the models are {', '.join(names)}")
    if len(places) < 3:
        raise ImageRewardError(f"a ranking of {len(places)} models says nothing; rank 3 or more")
    return places


def generators_report(
    measured: Benchmark, human_places: Mapping[str, float] | None = None, skipped: int = 0
) -> Report:
    """Lay the benchmark out."""
    first = next(iter(measured.standings.values()))
    introduction = f"{len(first):,} models; each model's score is the mean over its prompts' mean scores.{left_out(skipped)}"
    tables = [
        _standing_table(scorer, standings, human_places) for scorer, standings in measured.standings.items()
    ]
    if measured.correlation:
        rows = [[scorer, f"{rho:.4f}"] for scorer, rho in measured.correlation.items()]
        tables.append(Table("Rank correlation with people", ["scorer", "Spearman's rho"], rows))
    plots = {
        f"Scores by {scorer}": distribution_plot(
            f"Distribution of {scorer} scores", {name: values[name] for name in measured.standings[scorer]}
        )
        for scorer, values in measured.values.items()
    }
    return Report(
        name="generators",
        title="Text-to-image models, scored",
        introduction=introduction,
        tables=tables,
        data=_data(measured, human_places, skipped),
        pictures=plots,
        csv_rows=_rows(measured),
    )


def _standing_table(
    scorer: str, standings: Mapping[str, Standing], human_places: Mapping[str, float] | None
) -> Table:
    header = [
        "model",
        "place",
        "mean score",
        "95 % interval",
        "images",
        *(["people"] if human_places else []),
    ]
    rows = []
    for name, standing in standings.items():
        mean = standing.mean.shown_for(standing.prompts)
        row = [
            name,
            str(standing.place),
            f"{mean.value:.4f}",
            "–" if math.isnan(mean.low) else f"[{mean.low:.4f}, {mean.high:.4f}]",
            f"{standing.images:,}",
        ]
        if human_places:
            row.append(f"{human_places[name]:g}" if name in human_places else "–")
        rows.append(row)
    note = f"Prompts were resampled for the intervals; fewer than {ENOUGH_PROMPTS} give none."
    return Table(scorer, header, rows, note)


def _rows(measured: Benchmark) -> list[dict[str, Any]]:
    return [
        {
            "scorer": scorer,
            "model": name,
            "place": s.place,
            **s.mean._asdict(),
            "images": s.images,
            "prompts": s.prompts,
        }
        for scorer, standings in measured.standings.items()
        for name, s in standings.items()
    ]


def _data(measured: Benchmark, human_places: Mapping[str, float] | None, skipped: int) -> dict[str, Any]:
    return {
        "standings": _rows(measured),
        "spearman": measured.correlation,
        "human_places": human_places,
        "skipped_images": skipped,
        "scores": measured.values,
    }


def _images_in(folder: Path, prompts: Mapping[str, str]) -> dict[str, list[Path]]:
    found: dict[str, list[tuple[int, Path]]] = {}
    for path in folder.iterdir():
        match = _FILE.fullmatch(path.stem)
        if match and path.suffix.lower() in SUFFIXES and match["prompt"] in prompts:
            found.setdefault(match["prompt"], []).append((int(match["number"]), path))
    return {key: [path for _, path in sorted(found[key])] for key in prompts if key in found}
