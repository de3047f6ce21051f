"""Sync: batches of operations, applied once each; the same for REST and for the socket."""
