"""`python -m tests.fuzzing`. What runs in several processes has to stand in a module with a name: `attack`."""

import sys

from tests.fuzzing.attack import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
