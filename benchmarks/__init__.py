"""Speed and memory beside the `image-reward` package, in one run: `python -m benchmarks`."""
