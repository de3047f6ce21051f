"""Versions and moves at S3."""

from tests.shared.cloud.writers import WritersContract


class TestWriters(WritersContract):
    pass
