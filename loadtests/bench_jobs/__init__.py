"""`make bench-jobs`: lists of millions of jobs, at the first page and far down, beside the same by OFFSET."""
