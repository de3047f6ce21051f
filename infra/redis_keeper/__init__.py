"""Keeps a Redis Cluster of pods whole: they come with other addresses and, after a lost node, with nothing at all."""
