"""Measurements in, files out.

May import all but the command line, and what stands in for others (`demo`, `dcnum`).
"""
