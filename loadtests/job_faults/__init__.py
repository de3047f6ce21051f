"""Faults under jobs: whatever fails, every accepted job ends once, with one effect. See `__main__`."""
