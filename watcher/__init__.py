"""Watchers turn changed cloud files into committed jobs and events."""
