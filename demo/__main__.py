"""`demo`: the small WebUI with this extension in it. `demo --once PROMPT`: one job, no browser.

The options of one job: `demo --once --help`. Those of the WebUI:
"""

from __future__ import annotations

import os
import sys

from demo import once, start

STOPPED = 130


def main(arguments: list[str]) -> int:
    try:
        return run(arguments)
    except KeyboardInterrupt:
        print("stopped; images that were saved stay where they are", file=sys.stderr, flush=True)
        os._exit(
            STOPPED
        )  # at once: a thread of PyTorch's that still computes would end an orderly exit with an abort


def run(arguments: list[str]) -> int:
    if any(a == "--once" or a.startswith("--once=") for a in arguments):
        return once.main(arguments)
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
    start.prepare(arguments)
    import launch

    launch.main()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
