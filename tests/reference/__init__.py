"""Scores of the reference implementation, and the script that makes them again."""
