"""What a comparison of a base and its LoRAs says, as tables and pictures."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean
from typing import Any

from imagereward_ext.evaluation.contact_sheet import Cell, Row, contact_sheet
from imagereward_ext.evaluation.report import Report, Table
from imagereward_ext.evaluation.statistics import WORSE, doubt
from imagereward_ext.evaluation.variants import BASE, Comparison, ImageSettings


def comparison_report(measured: Comparison, settings: ImageSettings, base: str) -> Report:
    """Put everything measured into a report."""
    s = settings.sampling
    images = len(measured.prompts)
    return Report(
        name="comparison",
        title=f"{base} before and after",
        introduction=(
            f"{images:,} images of {measured.prompt_count:,} prompts for each, same seeds; {s.sampler}, {s.steps} "
            f"steps, guidance {s.guidance:g}, {s.width}x{s.height}. Intervals are 95 % (bootstrap over prompts). "
            + " ".join(_advice(measured, s.guidance))
        ),
        tables=[*(_scorer_table(measured, scorer) for scorer in measured.scorers), *_matrices(measured)],
        data=_data(measured, settings),
        pictures={"Contact sheet": contact_sheet(_rows(measured), list(measured.results))},
        csv_rows=list(_csv_rows(measured)),
    )


def _advice(measured: Comparison, guidance: float) -> Iterator[str]:
    """Say of each LoRA what it is worth at these settings; one that gains nothing gets no weight."""
    if too_few := doubt(measured.prompt_count):
        yield too_few
        return
    for path, found in measured.findings().items():
        told = (
            f"{path.stem}: {found.verdict} at guidance {guidance:g}, {found.gain} spreads of the scorers with weight "
            f"{found.variant.weight:g}"
        )
        if found.better:
            yield f"{told}; recommended weight {found.variant.weight:g}."
        else:
            yield f"{told}; {'do not use it' if found.verdict == WORSE else 'no weight is recommended'}."


def _scorer_table(measured: Comparison, scorer: str) -> Table:
    prompts = measured.prompt_count
    rows = []
    for label, result in measured.results.items():
        gain, wins = "–", "–"
        if label != BASE:
            gain = str(measured.gain(label, scorer).shown_for(prompts))
            wins = measured.wins(label, scorer).shown_for(prompts).percent()
        rows.append([label, f"{fmean(result.scores[scorer]):.4f}", gain, wins, f"{result.diversity:.4f}"])
    return Table(
        title=f"By {scorer}",
        header=["", "mean score", "difference to the base", "win rate against the base", "diversity"],
        rows=rows,
    )


def _matrices(measured: Comparison) -> Iterator[Table]:
    """Yield who wins how often against whom, where there are more than two."""
    labels = list(measured.results)
    if len(labels) < 3:
        return
    for scorer in measured.scorers:
        rows = [
            [label, *("–" if rate is None else f"{100 * rate:.1f} %" for rate in row)]
            for label, row in zip(labels, measured.win_matrix(scorer), strict=True)
        ]
        yield Table(f"Win rates by {scorer}: row against column", ["", *labels], rows)


def _rows(measured: Comparison) -> list[Row]:
    prompts = list(dict.fromkeys(measured.prompts))
    results = measured.results.values()
    scorer = measured.scorers[0]
    step = len(measured.prompts) // len(prompts)
    rows = []
    for number in range(min(len(result.shown) for result in results)):
        cells = [
            Cell(result.shown[number], f"{result.scores[scorer][number * step]:.3f}") for result in results
        ]
        rows.append(Row(measured.prompts[number * step], cells))
    return rows


def _data(measured: Comparison, settings: ImageSettings) -> dict[str, Any]:
    scorers = measured.scorers
    return {
        "settings": {**vars(settings), "sampling": vars(settings.sampling)},
        "prompts": measured.prompts,
        "candidates": {
            label: {
                "diversity": result.diversity,
                "scores": result.scores,
                "mean": {scorer: fmean(result.scores[scorer]) for scorer in scorers},
                "difference": {s: measured.gain(label, s)._asdict() for s in scorers if label != BASE},
                "win_rate": {s: measured.wins(label, s)._asdict() for s in scorers if label != BASE},
            }
            for label, result in measured.results.items()
        },
        "recommended": {
            str(path): None if variant is None else variant.weight
            for path, variant in measured.recommended().items()
        },
        "findings": {
            str(path): {
                "verdict": found.verdict,
                "weight": found.variant.weight,
                "gain": found.gain._asdict(),
            }
            for path, found in measured.findings().items()
        },
        "win_matrix": {scorer: measured.win_matrix(scorer) for scorer in scorers},
    }


def _csv_rows(measured: Comparison) -> Iterator[dict[str, Any]]:
    for label, result in measured.results.items():
        for scorer, scores in result.scores.items():
            for number, (prompt, score) in enumerate(zip(measured.prompts, scores, strict=True)):
                yield {
                    "candidate": label,
                    "scorer": scorer,
                    "image": number,
                    "prompt": prompt,
                    "score": score,
                }
