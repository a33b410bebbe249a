"""Model weights: what is known, where they lie, how they get there, and that they are what they should be."""
