"""Trainings as processes of their own: start, watch, stop, resume and queue them. Knows no WebUI."""
