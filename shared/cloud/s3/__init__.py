"""S3, and stores that speak like it."""
