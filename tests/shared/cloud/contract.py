"""What every provider does, whichever it is: the tests of the port, to be run by each provider's own.

A provider's test module has a class that inherits `ProviderContract` and gives the fixture `provider`: the port to an
empty root. `outsider` puts other content in the place of a file as somebody else would.
"""

import asyncio
import dataclasses
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from shared.cloud.crc64nvme import crc64_nvme, written
from shared.cloud.errors import (
    BadPath,
    ContentChanged,
    ContentMismatch,
    CursorExpired,
    Misconfigured,
    NameTaken,
    NotAFile,
    NotFound,
)
from shared.cloud.hashes import digest_of
from shared.cloud.http import CONNECTIONS_MAX
from shared.cloud.mirror import Mirror
from shared.cloud.provider import ChangePage, HashKind, Object, Offer, Part, Provider, Upload
from shared.cloud.quick_xor import quick_xor
from shared.cloud.store import Existed, Stored

__all__ = ["ProviderContract", "SplitPutContract", "follow", "hashed", "in_pieces", "read"]

NAMES = (
    "a b.txt",
    "50%.txt",
    "a%2Fb.txt",
    "ü☂.jpg",
    "a+b&c=d;e.txt",
    "it's (1).txt",
    "x#y.txt",
    ".hidden",
    "[a]{b}$.txt",
)


async def read(provider: Provider, path: str, *, object_id: str | None = None) -> bytes:
    """All of a file."""
    async with provider.open(path, object_id=object_id) as reader:
        return b"".join([piece async for piece in reader.chunks()])


async def in_pieces(content: bytes, size: int) -> AsyncIterator[bytes]:
    """A stream of it."""
    for start in range(0, len(content), size):
        yield content[start : start + size]


def hashed(content: bytes) -> dict[HashKind, str]:
    """Every hash that a provider may say."""
    return {
        "sha256": hashlib.sha256(content).hexdigest(),
        "md5": hashlib.md5(content).hexdigest(),
        "quick_xor": quick_xor(content),
        "crc64nvme": written(crc64_nvme(content)),
    }


def made_up(size: int) -> bytes:
    """Content in which no two places look alike."""
    block = hashlib.sha256(b"fleetwire").digest() * 32
    return b"".join(number.to_bytes(8, "big") + block[:1016] for number in range(size // 1024 + 1))[:size]


async def follow(provider: Provider, mirror: Mirror, *, pages_max: int = 500) -> list[ChangePage]:
    """Apply pages until there is no more."""
    pages = []
    for _ in range(pages_max):
        page = await provider.changes(mirror.cursor)
        mirror.apply(page)
        pages.append(page)
        if not page.more:
            return pages
    raise AssertionError(f"more than {pages_max} pages")


async def listed(provider: Provider, folder: str = "") -> dict[str, Object]:
    """Objects by path."""
    return {found.path: found async for found in provider.list(folder)}


class ProviderContract:
    """Inherit, and give `provider`."""

    @pytest.fixture
    def provider(self) -> Provider:
        """The port to an empty root."""
        raise NotImplementedError

    async def outsider(self, provider: Provider, path: str, content: bytes) -> None:
        """Somebody else puts other content in the place of what is there."""
        await provider.remove(path)
        await provider.put_new(path, content)

    # It says what it is

    async def test_it_says_what_it_can_do_and_who_it_is(self, provider: Provider) -> None:
        can = provider.capabilities
        assert can.hashes
        assert 0 < can.part_min <= can.part_max
        assert can.part_max % can.part_multiple == 0
        assert can.parts_at_once >= 1
        assert can.single_max >= 0
        assert provider.name
        probe = await provider.probe()
        assert probe.who
        assert probe.total is None or probe.used is None or probe.used >= 0

    # Putting and reading

    async def test_bytes_a_file_and_a_stream_are_put_and_read_alike(self, provider: Provider, tmp_path: Path) -> None:
        content = made_up(700_000)
        outside = tmp_path / "made elsewhere"
        outside.write_bytes(content)
        for name, source in (("bytes", content), ("path", outside), ("stream", in_pieces(content, 60_000))):
            path = f"Responses/truck-7/{name}.bin"
            assert await provider.put_new(path, source) == Stored(digest_of(content))
            assert await read(provider, path) == content
            stat, digest = await provider.content(path)
            assert (stat.size, digest) == (len(content), digest_of(content))

    async def test_readers_that_stop_early_hold_nothing(self, provider: Provider) -> None:
        content = made_up(600_000)
        await provider.put_new("f", content)
        for _ in range(CONNECTIONS_MAX + 6):
            async with provider.open("f") as reader:
                async for piece in reader.chunks():
                    assert content.startswith(piece)
                    break
        assert await read(provider, "f") == content

    async def test_an_empty_file_is_a_file(self, provider: Provider) -> None:
        assert await provider.put_new("empty", b"") == Stored(digest_of(b""))
        assert await read(provider, "empty") == b""
        found = await provider.look("empty")
        assert found is not None
        assert found.size == 0

    async def test_a_folder_is_removed_only_when_nothing_is_in_it(self, provider: Provider) -> None:
        for _ in range(2):
            await provider.put_new("trial/deep/a.txt", b"a")
            assert not await provider.remove_empty("trial/deep")
            assert not await provider.remove_empty("trial")
            assert await provider.remove("trial/deep/a.txt")
            assert await provider.remove_empty("trial/deep")
            assert await provider.remove_empty("trial")
            assert await provider.remove_empty("trial")
            assert [one.path async for one in provider.list("trial")] == []

    async def test_any_range_can_be_read(self, provider: Provider) -> None:
        content = made_up(300_000)
        await provider.put_new("f", content)
        async with provider.open("f") as reader:
            assert reader.stat.size == len(content)
            for start, length in ((0, 1), (299_999, 1), (1_000, 250_000), (5, 0), (300_000, 0)):
                got = b"".join([piece async for piece in reader.chunks(start, length)])
                assert got == content[start : start + length]
            assert b"".join([piece async for piece in reader.chunks(299_990)]) == content[299_990:]

    async def test_names_keep_every_character(self, provider: Provider) -> None:
        for name in NAMES:
            path = f"a folder/{name}/{name}"
            assert isinstance(await provider.put_new(path, name.encode()), Stored), name
            assert await read(provider, path) == name.encode()
        assert set(await listed(provider)) == {f"a folder/{name}/{name}" for name in NAMES}

    async def test_what_is_no_path_is_refused(self, provider: Provider) -> None:
        for path in ("", "/a", "a/", "a//b", "a/../b", "..", "a\\b", "a\nb", "a" * 201):
            for asked in (
                provider.look(path),
                provider.put_new(path, b"x"),
                provider.remove(path),
                read(provider, path),
            ):
                with pytest.raises(BadPath):
                    await asked

    async def test_a_look_tells_size_version_and_the_hashes_that_were_promised(self, provider: Provider) -> None:
        content = made_up(100_000)
        assert await provider.look("a/f") is None
        await provider.put_new("a/f", content)
        found = await provider.look("a/f")
        assert found is not None
        assert (found.path, found.size) == ("a/f", len(content))
        assert found.hashes
        assert found.hashes.keys() <= provider.capabilities.hashes
        right = hashed(content)
        assert found.hashes == {kind: right[kind] for kind in found.hashes}
        assert found == await provider.look("a/f"), "asking does not change it"
        assert found == await provider.look("somewhere/else", object_id=found.object_id) or found.object_id == "a/f"

    async def test_another_content_is_another_version_and_another_stat(self, provider: Provider) -> None:
        await provider.put_new("f", b"one")
        first, first_stat = await provider.look("f"), await provider.stat("f")
        await self.outsider(provider, "f", b"two")
        second, second_stat = await provider.look("f"), await provider.stat("f")
        assert first is not None
        assert second is not None
        assert first.version != second.version
        assert ":" in second.version
        assert first_stat != second_stat
        assert second_stat == await provider.stat("f")

    async def test_a_reader_gives_one_version_or_says_that_it_changed(self, provider: Provider) -> None:
        old = made_up(100_000)
        await provider.put_new("f", old)
        async with provider.open("f") as reader:
            head = b"".join([piece async for piece in reader.chunks(0, 50_000)])
            await self.outsider(provider, "f", old[::-1])
            try:
                rest = b"".join([piece async for piece in reader.chunks(50_000, 50_000)])
            except (ContentChanged, NotFound):
                return
            assert head + rest == old

    # Nothing is replaced

    async def test_what_is_there_is_left_alone_and_the_same_content_is_known(self, provider: Provider) -> None:
        await provider.put_new("a/response.json", b"first")
        again = await provider.put_new("a/response.json", b"first")
        assert isinstance(again, Existed)
        assert again.identical
        other = await provider.put_new("a/response.json", b"second")
        assert isinstance(other, Existed)
        assert not other.identical
        assert other.offered == digest_of(b"second")
        assert await read(provider, "a/response.json") == b"first"

    async def test_of_many_writers_of_one_name_exactly_one_makes_it(self, provider: Provider) -> None:
        answers = await asyncio.gather(*(provider.put_new("x/y/one", f"writer {n}".encode()) for n in range(20)))
        (made,) = [answer for answer in answers if isinstance(answer, Stored)]
        assert digest_of(await read(provider, "x/y/one")) == made.content
        assert list(await listed(provider, "x")) == ["x/y/one"]

    async def test_names_differ_by_case_only_where_the_provider_says_so(self, provider: Provider) -> None:
        await provider.put_new("a/Photo.jpg", b"one")
        second = await provider.put_new("a/photo.jpg", b"two")
        assert isinstance(second, Stored if provider.capabilities.case_sensitive else Existed)

    async def test_what_was_not_announced_makes_nothing(self, provider: Provider) -> None:
        for expect in (dataclasses.replace(digest_of(b"hello"), size=6), digest_of(b"hallo")):
            with pytest.raises(ContentMismatch):
                await provider.put_new("f", b"hello", expect=expect)
            with pytest.raises(ContentMismatch):
                await provider.put_new("f", in_pieces(b"hello", 2), expect=expect)
        assert await listed(provider) == {}
        assert await provider.put_new("f", b"hello", expect=digest_of(b"hello")) == Stored(digest_of(b"hello"))

    async def test_a_source_that_fails_leaves_nothing(self, provider: Provider) -> None:
        async def fails() -> AsyncIterator[bytes]:
            yield b"x" * 300_000
            raise ConnectionResetError("gone")

        with pytest.raises(ConnectionResetError):
            await provider.put_new("f", fails())
        assert await provider.look("f") is None
        assert await listed(provider) == {}

    async def test_a_put_that_is_cancelled_leaves_a_whole_file_or_none(self, provider: Provider) -> None:
        content = made_up(200_000)
        for number, seconds in enumerate((0.0, 0.001, 0.005, 0.02)):
            put = asyncio.create_task(provider.put_new(f"f{number}", content))
            await asyncio.wait({put}, timeout=seconds)
            put.cancel()
            await asyncio.gather(put, return_exceptions=True)
        for path in await listed(provider):
            assert await read(provider, path) == content

    # Removing, moving, listing

    async def test_removing_is_once(self, provider: Provider) -> None:
        assert await provider.remove("a/f") is False
        await provider.put_new("a/f", b"x")
        assert await provider.remove("a/f") is True
        assert await provider.remove("a/f") is False
        assert await provider.look("a/f") is None
        assert await provider.stat("a/f") is None
        with pytest.raises(NotFound):
            await read(provider, "a/f")
        assert isinstance(await provider.put_new("a/f", b"y"), Stored), "the name is free again"

    async def test_removing_an_object_spares_another_that_has_its_path_by_now(self, provider: Provider) -> None:
        await provider.put_new("a/f", b"x")
        first = await provider.look("a/f")
        assert first is not None
        await provider.remove("a/f")
        await provider.put_new("a/f", b"y")
        second = await provider.look("a/f")
        assert second is not None
        if first.object_id != second.object_id:
            assert await provider.remove("a/f", object_id=first.object_id) is False
            assert await read(provider, "a/f") == b"y"

    async def test_a_folder_is_no_file(self, provider: Provider) -> None:
        await provider.put_new("a/b/f", b"x")
        for asked in (provider.stat("a/b"), provider.look("a/b"), read(provider, "a/b"), provider.remove("a/b")):
            try:
                answer = await asked
            except (NotAFile, NotFound):
                continue
            assert answer in (None, False), "a store without folders has nothing there"
        assert await read(provider, "a/b/f") == b"x"

    async def test_a_listing_has_what_is_below_a_folder_and_nothing_else(self, provider: Provider) -> None:
        inside = {f"a/{n}" for n in range(7)} | {"a/b/c/d", "a/b/e"}
        for path in inside | {"ab", "aa/x", "f"}:
            await provider.put_new(path, path.encode())
        found = await listed(provider, "a")
        assert set(found) == inside
        for path, one in found.items():
            assert one == dataclasses.replace(await self._look(provider, path), hashes=one.hashes)
        assert set(await listed(provider)) == inside | {"ab", "aa/x", "f"}
        assert await listed(provider, "not/there") == {}

    async def test_a_moved_file_is_there_and_no_longer_here(self, provider: Provider) -> None:
        if not provider.capabilities.moves:
            pytest.skip("it cannot move")
        await provider.put_new("a/f", b"content")
        before = await self._look(provider, "a/f")
        moved = await provider.move("a/f", "b/c/g")
        assert (moved.path, moved.size) == ("b/c/g", 7)
        assert await read(provider, "b/c/g") == b"content"
        assert await provider.look("a/f") is None
        assert list(await listed(provider)) == ["b/c/g"]
        if moved.object_id == before.object_id:
            assert await read(provider, "a/f", object_id=before.object_id) == b"content"
        renamed = await provider.move("b/c/g", "b/c/h", object_id=moved.object_id)
        assert renamed == dataclasses.replace(await self._look(provider, "b/c/h"), hashes=renamed.hashes)

    async def test_a_move_replaces_nothing_and_needs_something(self, provider: Provider) -> None:
        if not provider.capabilities.moves:
            pytest.skip("it cannot move")
        await provider.put_new("a", b"one")
        await provider.put_new("b", b"two")
        with pytest.raises(NameTaken):
            await provider.move("a", "b")
        with pytest.raises(NotFound):
            await provider.move("none", "c")
        assert (await read(provider, "a"), await read(provider, "b")) == (b"one", b"two")

    async def test_an_address_gives_the_bytes_to_whoever_has_it(self, provider: Provider) -> None:
        await provider.put_new("a/photo.jpg", b"picture")
        url = await provider.download_url("a/photo.jpg", name="photo.jpg", content_type="image/jpeg", lifetime_s=60)
        if url is None:
            return
        async with httpx.AsyncClient(trust_env=False) as stranger:
            answer = await stranger.get(url, follow_redirects=True)
        assert (answer.status_code, answer.content) == (200, b"picture")

    # Parts

    def _sizes(self, provider: Provider) -> tuple[int, int]:
        """A part that is allowed, and the size of a file of two of them and a bit."""
        can = provider.capabilities
        part = max(can.part_min, 65_536)
        part += -part % can.part_multiple
        return part, 2 * part + 1234

    async def _look(self, provider: Provider, path: str) -> Object:
        found = await provider.look(path)
        assert found is not None
        return found

    async def test_a_file_in_parts_is_there_when_it_is_finished_and_not_before(self, provider: Provider) -> None:
        part, size = self._sizes(provider)
        content = made_up(size)
        upload = await provider.begin("big/file.bin", Offer(size))
        starts = list(range(0, size, part))
        if provider.capabilities.parts_at_once > 1:
            brought = await asyncio.gather(
                *(provider.put_part(upload, start, content[start : start + part]) for start in reversed(starts))
            )
        else:
            brought = [await provider.put_part(upload, start, content[start : start + part]) for start in starts]
        if provider.capabilities.parts_at_once > 1:
            assert await provider.look("big/file.bin") is None
        made = await provider.finish(upload, sorted(brought, key=lambda one: one.start))
        assert (made.path, made.size) == ("big/file.bin", size)
        found = await self._look(provider, "big/file.bin")
        assert (made.version, made.object_id) == (found.version, found.object_id)
        right = hashed(content)
        assert found.hashes == {kind: right[kind] for kind in found.hashes}
        assert await read(provider, "big/file.bin") == content
        assert list(await listed(provider)) == ["big/file.bin"]

    async def test_an_upload_goes_on_from_what_was_written_down(self, provider: Provider) -> None:
        part, size = self._sizes(provider)
        content = made_up(size)
        begun = await provider.begin("f", Offer(size))
        first = await provider.put_part(begun, 0, content[:part])
        assert (first.start, first.end) == (0, part)
        assert await provider.look("f") is None
        upload = Upload(begun.path, begun.size, str(begun.state), begun.expires_at)
        assert begun.state not in repr(upload)
        known = list(await provider.parts(upload))
        assert self._covered(known) == part
        known += [await provider.put_part(upload, start, content[start : start + part]) for start in (part, 2 * part)]
        await provider.finish(upload, sorted(known, key=lambda one: one.start))
        assert await read(provider, "f") == content

    async def test_a_part_that_is_brought_twice_is_there_once(self, provider: Provider) -> None:
        part, size = self._sizes(provider)
        content = made_up(size)
        upload = await provider.begin("f", Offer(size))
        brought = []
        for start in range(0, size, part):
            piece = content[start : start + part]
            await provider.put_part(upload, start, piece)
            brought.append(await provider.put_part(upload, start, piece))
        assert [(one.start, one.end) for one in brought] == [
            (start, min(start + part, size)) for start in range(0, size, part)
        ]
        await provider.finish(upload, brought)
        assert await read(provider, "f") == content

    async def test_a_name_that_was_taken_meanwhile_is_told_and_left_alone(self, provider: Provider) -> None:
        part, size = self._sizes(provider)
        content = made_up(size)
        upload = await provider.begin("f", Offer(size))
        await provider.put_new("f", b"somebody else's")
        with pytest.raises(NameTaken):
            await self._bring(provider, upload, content, part)
        assert await read(provider, "f") == b"somebody else's"
        await provider.abort(upload)
        with pytest.raises(NameTaken):
            await self._bring(provider, await provider.begin("f", Offer(size)), content, part)
        assert list(await listed(provider)) == ["f"]

    async def test_an_upload_that_was_given_up_is_gone(self, provider: Provider) -> None:
        part, size = self._sizes(provider)
        upload = await provider.begin("f", Offer(size))
        await provider.put_part(upload, 0, made_up(part))
        await provider.abort(upload)
        await provider.abort(upload)
        with pytest.raises(NotFound):
            await provider.parts(upload)
        with pytest.raises(NotFound):
            await provider.put_part(upload, 0, made_up(part))
        assert await listed(provider) == {}

    async def test_bytes_that_are_not_those_offered_are_told(self, provider: Provider) -> None:
        part, size = self._sizes(provider)
        content = made_up(size)
        right = hashed(content)
        kinds = {kind: right[kind] for kind in provider.capabilities.hashes}
        upload = await provider.begin("f", Offer(size, kinds))
        wrong = content[:-1] + b"!"
        try:
            made = await self._bring(provider, upload, wrong, part)
        except ContentMismatch:
            return
        assert any(made.hashes.get(kind, value) != value for kind, value in kinds.items()) or not made.hashes

    async def _bring(self, provider: Provider, upload: Upload, content: bytes, part: int) -> Object:
        brought = [
            await provider.put_part(upload, start, content[start : start + part])
            for start in range(0, len(content), part)
        ]
        return await provider.finish(upload, brought)

    def _covered(self, parts: list[Part]) -> int:
        reached = 0
        for one in sorted(parts, key=lambda one: one.start):
            assert one.start <= reached
            reached = max(reached, one.end)
        return reached

    # Changes

    async def test_what_the_changes_say_is_what_is_there(self, provider: Provider) -> None:
        for path in ("Requests/truck-7/a.txt", "Requests/truck-8/b.txt", "Responses/truck-7/x.1/out.bin"):
            await provider.put_new(path, path.encode())
        mirror = Mirror()
        pages = await follow(provider, mirror)
        assert pages[-1].full or provider.capabilities.changes == "delta"
        await self._agrees(provider, mirror)

        await provider.put_new("Requests/truck-7/late.txt", b"late")
        await self.outsider(provider, "Requests/truck-7/a.txt", b"rewritten")
        await provider.remove("Requests/truck-8/b.txt")
        if provider.capabilities.moves:
            await provider.move("Responses/truck-7/x.1/out.bin", "Responses/truck-9/y.2/moved.bin")
        await follow(provider, mirror)
        await self._agrees(provider, mirror)

        nothing = await follow(provider, mirror)
        await self._agrees(provider, mirror)
        if provider.capabilities.changes == "delta":
            assert sum(len(page.changes) for page in nothing) == 0

    async def test_a_page_given_twice_changes_nothing(self, provider: Provider) -> None:
        await provider.put_new("Requests/truck-7/a.txt", b"one")
        mirror = Mirror()
        for page in await follow(provider, mirror):
            mirror.apply(page)
        await self._agrees(provider, mirror)

    async def test_a_run_over_everything_can_begin_at_any_time(self, provider: Provider) -> None:
        await provider.put_new("Requests/truck-7/a.txt", b"one")
        await follow(provider, Mirror())
        await provider.put_new("Requests/truck-7/b.txt", b"two")
        mirror = Mirror()
        assert all(page.full for page in await follow(provider, mirror))
        await self._agrees(provider, mirror)

    async def test_a_cursor_that_nobody_gave_is_expired(self, provider: Provider) -> None:
        with pytest.raises(CursorExpired):
            await provider.changes("/../ no cursor of ours \x00")

    async def test_who_calls_nobody_says_so(self, provider: Provider) -> None:
        if not provider.capabilities.push:
            with pytest.raises(Misconfigured):
                await provider.subscribe("https://fleet.example.com/hook", "secret", lifetime_s=60)

    async def _agrees(self, provider: Provider, mirror: Mirror) -> None:
        assert mirror.files() == {path: found.version for path, found in (await listed(provider)).items()}


class SplitPutContract(ProviderContract):
    """What else holds of a provider of which one request takes little: a large put is sent in parts.

    The local disk is none of them: it takes whatever there is in one go."""

    async def test_more_than_one_request_takes_is_put_all_the_same(self, provider: Provider) -> None:
        size = provider.capabilities.single_max + 1
        content = made_up(size)
        assert await provider.put_new("big", in_pieces(content, 100_000), expect=digest_of(content)) == Stored(
            digest_of(content)
        )
        assert await read(provider, "big") == content
        again = await provider.put_new("big", in_pieces(content, 100_000))
        assert isinstance(again, Existed)
        assert again.identical
        other = await provider.put_new("big", in_pieces(content[::-1], 100_000))
        assert isinstance(other, Existed)
        assert not other.identical
        assert list(await listed(provider)) == ["big"]
