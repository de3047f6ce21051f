"""Feeds whose provider is asked over the network: a log of changes behind a cursor, or a listing."""
