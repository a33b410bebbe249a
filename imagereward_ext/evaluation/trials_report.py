"""What a comparison of a base and its LoRAs says, as tables and pictures."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean
from typing import Any

from imagereward_ext.evaluation.contact_sheet import Cell, Row, contact_sheet
from imagereward_ext.evaluation.report import Report, Table
from imagereward_ext.evaluation.statistics import doubt
from imagereward_ext.evaluation.trials import BASE, Trials, TrialSettings, recommended, win_matrix


def trials_report(trials: Trials, settings: TrialSettings, base: str) -> Report:
    """Put everything measured into a report."""
    s = settings.sampling
    images = len(trials.prompts)
    return Report(
        name="comparison",
        title=f"{base} before and after",
        introduction=(
            f"{images:,} images of {trials.prompt_count:,} prompts for each, same seeds; {s.sampler}, {s.steps} "
            f"steps, guidance {s.guidance:g}, {s.width}x{s.height}. Intervals are 95 % (bootstrap over prompts). "
            + " ".join(_advice(trials))
        ),
        tables=[*(_scorer_table(trials, scorer) for scorer in trials.scorers), *_matrices(trials)],
        data=_data(trials, settings),
        pictures={"Contact sheet": contact_sheet(_rows(trials), [c.label for c in trials.candidates])},
        csv_rows=list(_csv_rows(trials)),
    )


def _advice(trials: Trials) -> Iterator[str]:
    if too_few := doubt(trials.prompt_count):
        yield too_few
        return
    for path, candidate in recommended(trials).items():
        if candidate is None:
            yield f"{path.stem}: no weight beats the base; do not use it."
        else:
            yield f"{path.stem}: recommended weight {candidate.weight:g}."


def _scorer_table(trials: Trials, scorer: str) -> Table:
    rows = []
    for candidate in trials.candidates:
        label = candidate.label
        mean = fmean(trials.scores[label][scorer])
        paired = ["–", "–"] if label == BASE else [
            str(trials.gain(label, scorer).shown_for(trials.prompt_count)),
            trials.wins(label, scorer).shown_for(trials.prompt_count).percent(),
        ]  # fmt: skip
        rows.append([label, f"{mean:.4f}", *paired, f"{trials.diversities[label]:.4f}"])
    return Table(
        title=f"By {scorer}",
        header=["", "mean score", "difference to the base", "win rate against the base", "diversity"],
        rows=rows,
    )


def _matrices(trials: Trials) -> Iterator[Table]:
    """Yield who wins how often against whom, where there are more than two."""
    labels = [candidate.label for candidate in trials.candidates]
    if len(labels) < 3:
        return
    for scorer in trials.scorers:
        rows = [
            [label, *("–" if rate is None else f"{100 * rate:.1f} %" for rate in row)]
            for label, row in zip(labels, win_matrix(trials, scorer), strict=True)
        ]
        yield Table(f"Win rates by {scorer}: row against column", ["", *labels], rows)


def _rows(trials: Trials) -> list[Row]:
    prompts = list(dict.fromkeys(trials.prompts))
    scorer = trials.scorers[0]
    step = len(trials.prompts) // len(prompts)
    count = min(len(pictures) for pictures in trials.shown.values())
    rows = []
    for number in range(count):
        cells = [
            Cell(trials.shown[c.label][number], f"{trials.scores[c.label][scorer][number * step]:.3f}")
            for c in trials.candidates
        ]
        rows.append(Row(trials.prompts[number * step], cells))
    return rows


def _data(trials: Trials, settings: TrialSettings) -> dict[str, Any]:
    labels = [candidate.label for candidate in trials.candidates]
    return {
        "settings": {**vars(settings), "sampling": vars(settings.sampling)},
        "prompts": trials.prompts,
        "candidates": {
            label: {
                "diversity": trials.diversities[label],
                "scores": trials.scores[label],
                "mean": {scorer: fmean(trials.scores[label][scorer]) for scorer in trials.scorers},
                "difference": {s: trials.gain(label, s)._asdict() for s in trials.scorers if label != BASE},
                "win_rate": {s: trials.wins(label, s)._asdict() for s in trials.scorers if label != BASE},
            }
            for label in labels
        },
        "recommended": {
            str(path): None if c is None else c.weight for path, c in recommended(trials).items()
        },
        "win_matrix": {scorer: win_matrix(trials, scorer) for scorer in trials.scorers},
    }


def _csv_rows(trials: Trials) -> Iterator[dict[str, Any]]:
    for candidate in trials.candidates:
        for scorer in trials.scorers:
            for number, (prompt, score) in enumerate(
                zip(trials.prompts, trials.scores[candidate.label][scorer], strict=True)
            ):
                yield {
                    "candidate": candidate.label,
                    "scorer": scorer,
                    "image": number,
                    "prompt": prompt,
                    "score": score,
                }
