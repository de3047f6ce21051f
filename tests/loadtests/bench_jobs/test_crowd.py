import asyncpg
import pytest

from api.job_list import plan
from loadtests.bench_jobs import crowd
from loadtests.bench_jobs.measure import key_at
from loadtests.bench_jobs.points import POINTS
from shared.store.queries import statements


def test_every_statement_of_a_list_is_measured() -> None:
    measured = {plan(point.question).statement for point in POINTS}
    assert measured == statements("job_list").keys() - {"job", "history"}
    assert len({point.name for point in POINTS}) == len(POINTS)


async def test_the_crowd_is_what_it_says_and_its_indexes_are_those_of_the_migrations(database_url: str) -> None:
    sql = await asyncpg.connect(database_url)
    indexes = "SELECT indexdef FROM pg_indexes WHERE tablename IN ('jobs', 'job_status') ORDER BY 1"
    try:
        before = await sql.fetch(indexes)
        assert not await crowd.is_made(database_url, 3000)
        await crowd.make(database_url, 3000, lambda what, done: None)
        assert await crowd.is_made(database_url, 3000)
        assert not await crowd.is_made(database_url, 3001)
        assert await sql.fetch(indexes) == before
        assert await sql.fetchval("SELECT count(*) FROM jobs") == 3000
        changes = 3000 * crowd.CHANGES_PER_JOB + crowd.LONG_HISTORY
        assert await sql.fetchval("SELECT count(*) FROM job_status") == changes
        # The last line of each history but the long one says how the job ended.
        wrong = (
            "SELECT count(*) FROM jobs j WHERE current_status IS DISTINCT FROM (SELECT status FROM job_status s"
            " WHERE s.job_id = j.job_id ORDER BY ts DESC LIMIT 1)"
        )
        assert await sql.fetchval(wrong) <= 1
        for point in POINTS:
            depth, key = await key_at(sql, point, 1000)
            assert (depth == 0) == (key is None), point.name
    finally:
        await sql.close()


def test_a_disk_without_room_is_said_before_anything_is_made(tmp_path: object) -> None:
    with pytest.raises(crowd.NoRoom, match="GB are free"):
        crowd.check_room("/", 10**12)  # type: ignore[arg-type]
