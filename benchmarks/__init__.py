"""Measurements of speed, side by side with dcnum; run ``python -m benchmarks``."""
