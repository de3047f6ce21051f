"""The cloud providers as their documents describe them: small enough to run inside a test, faulty at will."""
