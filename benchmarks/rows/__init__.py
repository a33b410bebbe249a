"""One module per row of the table; each has `measure(bench) -> Row`."""

NAMES = (
    "startup",
    "loading",
    "batch",
    "memory",
    "fast",
    "refl",
    "learning",
    "hires",
    "folder",
    "curves",
    "gpu",
)
