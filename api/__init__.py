"""The REST service: state by request, nothing held between requests."""
