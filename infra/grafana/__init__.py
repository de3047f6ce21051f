"""Grafana's dashboards, made from declarations: see `boards.py`."""
