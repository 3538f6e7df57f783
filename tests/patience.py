"""How long tests wait for what must come: only where something is broken does it take that long."""

PATIENCE = 600.0
"""Seconds; the machine may have far more to do than these tests."""
