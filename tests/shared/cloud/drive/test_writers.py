"""Versions and moves at Google Drive."""

from tests.shared.cloud.writers import WritersContract


class TestWriters(WritersContract):
    pass
