"""`python -m benchmarks`: measure everything beside the peer and write RESULTS.md, results.json and the plots.

python -m benchmarks                    all rows; the peer's environment is made at first use
python -m benchmarks --only batch       one row (may be repeated); the others keep their last results
python -m benchmarks --smoke            every row at tiny size, without the peer; writes nothing here
python -m benchmarks --make-peer        only make the peer's environment
python -m benchmarks --device cuda      with the rows that need a GPU
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from benchmarks import environments, materials
from benchmarks.bench import Bench, Row
from benchmarks.environments import ROOT
from benchmarks.rows import NAMES

HERE = Path(__file__).resolve().parent


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=NAMES, metavar="ROW", help=", ".join(NAMES))
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, no peer, no file written here")
    parser.add_argument("--make-peer", action="store_true", help="make the peer's environment and stop")
    parser.add_argument(
        "--peer", type=Path, metavar="PYTHON", help="use this Python as the peer's environment"
    )
    parser.add_argument("--without-peer", action="store_true", help="measure our side alone")
    parser.add_argument(
        "--rounds", type=int, default=3, help="A B A B ... so many times (default: %(default)s)"
    )
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count() or 1, help="of each process (default: %(default)s)"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument(
        "--data", type=Path, default=ROOT / "outputs" / "benchmarks", help="weights and pictures"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    if options.make_peer:
        print(environments.peer())
        return 0
    if options.smoke:
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder)
            scorer = materials.tiny_scorer(data / "scorer")
            bench = Bench(environments.ours(), None, data, scorer, 1, 1, full=False)
            names = options.only or NAMES
            # Nothing is compared here, so rows need not have the machine to themselves.
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                for name, row in zip(
                    names, pool.map(lambda name: _measured(bench, name), names), strict=True
                ):
                    told = "; ".join(f"{line.what} {line.ours}" for line in row.lines)
                    print(f"{name}: {told or row.notes[0]}", flush=True)
        return 0
    # Measurements start elsewhere; a link to a Python must stay one, or its packages are not found.
    given = options.peer.absolute() if options.peer else None
    peer = None if options.without_peer else given or environments.peer()
    data = options.data.resolve()
    scorer = materials.full_scorer(data)
    bench = Bench(
        environments.ours(), peer, data, scorer, options.threads, options.rounds, True, options.device
    )
    for name in options.only or NAMES:
        started = time.perf_counter()
        row = _measured(bench, name)
        _keep(name, row, bench, time.perf_counter() - started)
    return 0


def _measured(bench: Bench, name: str) -> Row:
    print(f"{name} …", file=sys.stderr, flush=True)
    row: Row = import_module(f"benchmarks.rows.{name}").measure(bench)
    return row


def _keep(name: str, row: Row, bench: Bench, seconds: float) -> None:
    """Write after every row, so that an interrupted run loses only the one it was in."""
    from benchmarks import plots, report

    file = HERE / "results.json"
    results = json.loads(file.read_text("utf-8")) if file.exists() else {}
    results[name] = {**asdict(row), "measured": report.circumstances(bench, seconds)}
    file.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", "utf-8")
    if name == "curves":
        plots.write(row.figures, HERE)
    (HERE / "RESULTS.md").write_text(report.written(results), "utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
