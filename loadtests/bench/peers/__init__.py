"""What else one would build this with, doing the same work in the same run."""
