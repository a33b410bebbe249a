"""Measuring scorers, generators and fine-tuned models, and reporting what was measured."""
