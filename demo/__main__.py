"""`demo`: the small WebUI with this extension in it. `demo --once PROMPT`: one job, no browser.

The options of one job: `demo --once --help`. Those of the WebUI:
"""

from __future__ import annotations

import sys

from demo import once, start


def main(arguments: list[str]) -> int:
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
