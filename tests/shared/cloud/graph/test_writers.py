"""Versions and moves at SharePoint."""

from tests.shared.cloud.writers import WritersContract


class TestWriters(WritersContract):
    pass
