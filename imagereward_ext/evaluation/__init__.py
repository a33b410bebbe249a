"""Measuring scorers, generators and fine-tuned models, and reporting what was measured.

Four questions, a module each: do scorers agree with people (`preferences`), which generator makes the better images
(`generators`), which image would each scorer pick (`top1`), and does a LoRA make a checkpoint better (`comparison`, which
makes the images itself: `variants`, `comparison_report`). A measurement takes a `ScoreTable` (`scoring`: every scorer's
scores of many images, kept on disk; `lazy`: no weights are loaded when all are there), computes with `statistics`
(intervals that resample prompts), and ends as a `Report` (`report`: text, Markdown, JSON, CSV) with `plots` and contact
sheets. `calibrate` measures scorers on a person's own images and writes mixes.
"""
