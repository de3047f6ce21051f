"""Load, soak and fault runs with a history checker."""
