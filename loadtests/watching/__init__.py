"""Watching cloud providers in a world of our own: a drive, a Postgres and a Redis in memory, and virtual time."""
