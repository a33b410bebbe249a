"""/sdapi/v1."""
