"""The image, and what a set-up with containers needs before its first start."""
