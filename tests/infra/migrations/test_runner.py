"""The order of migration files, and what a set of them may look like."""

from pathlib import Path

import pytest

from infra.migrations.runner import MigrationError, migration_files


def test_a_pre_file_runs_before_the_post_file_of_its_number(tmp_path: Path) -> None:
    for name in ("0002_b.post.sql", "0002_b.pre.sql", "0001_z.post.sql", "0001_z.pre.sql", "0003_a.pre.sql"):
        (tmp_path / name).write_text("SELECT 1")
    assert [file.name for file in migration_files(tmp_path)] == [
        "0001_z.pre.sql", "0001_z.post.sql", "0002_b.pre.sql", "0002_b.post.sql", "0003_a.pre.sql",
    ]  # fmt: skip


def test_a_file_that_nobody_would_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "0001_z.sql").write_text("SELECT 1")
    with pytest.raises(MigrationError, match=r"0001_z\.sql"):
        migration_files(tmp_path)
