"""`python -m imagereward_ext`."""

from __future__ import annotations

import signal
import sys


def run() -> int:
    """Run the command line as a program of its own: Ctrl-C is one line from the first import to the last line."""
    try:
        from imagereward_ext.cli import main
        from imagereward_ext.cli.stopping import PatientStop

        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else a shell wants it ignored
            signal.signal(signal.SIGINT, PatientStop())
        return main()
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return 130
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing is left that could be stopped


if __name__ == "__main__":
    sys.exit(run())
