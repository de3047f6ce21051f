"""The whole watcher over a real folder, Postgres and Valkey."""

from collections.abc import Callable

from tests.watcher.rig import InLoop, Rig, until


async def test_a_file_moved_into_requests_becomes_a_job(rig: Rig, watch: Callable[..., InLoop]) -> None:
    await rig.add_device("truck-7")
    watch()
    await rig.scanned()
    rig.move_in("Requests/truck-7/photo.jpg", b"a photo")

    async def queued() -> list[str]:
        return await rig.jobs()

    assert await until(queued, "a job") == ["Requests/truck-7/photo.jpg"]
