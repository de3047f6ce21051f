"""The files gateway: signed uploads and downloads for the local store, in a process of its own."""
