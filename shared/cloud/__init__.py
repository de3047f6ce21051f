"""Cloud folders: one small port, and the stores behind it."""
