"""The signed upload and download gateway of the local store, its own process."""
