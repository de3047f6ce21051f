"""The operators' page: what it is made of, who is let in, and the one reader that all its viewers share."""
