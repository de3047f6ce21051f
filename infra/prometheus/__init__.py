"""What Prometheus asks, records and alerts on, made from declarations: see `rules.py`."""
