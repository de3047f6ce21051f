from dataclasses import dataclass, field
from random import Random

import pytest

from loadtests.emulators.drive import DriveEmulator
from loadtests.emulators.drive_corpus import FOLDER
from loadtests.emulators.faults import Fault
from shared.cloud.drive import changes
from shared.cloud.drive.client import DriveClient
from shared.cloud.drive.provider import DriveProvider
from shared.cloud.errors import CursorExpired, StoreUnavailable
from shared.cloud.provider import Changed, ChangePage, Removed
from tests.shared.cloud.drive.account import Account


@dataclass
class Follower:
    """What somebody knows who reads the changes, and nothing else."""

    root_id: str
    items: dict[str, Changed] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)
    cursor: str | None = None
    pages: int = 0

    def apply(self, page: ChangePage) -> None:
        for change in page.changes:
            if isinstance(change, Removed):
                self._drop(change.item_id)
            else:
                self.items[change.item_id] = change
                self.told.add(change.item_id)
        if page.full and not page.more:
            for item_id in set(self.items) - self.told:
                self.items.pop(item_id, None)
        if not page.full or not page.more:
            self.told.clear()
        self.cursor = page.cursor
        self.pages += 1

    def _drop(self, item_id: str) -> None:
        self.items.pop(item_id, None)
        self.told.discard(item_id)
        for below in [key for key, one in self.items.items() if one.parent_id == item_id]:
            self._drop(below)

    def files(self) -> dict[str, str | None]:
        """Path → version of what lies below the root."""
        found: dict[str, str | None] = {}
        for item in self.items.values():
            path: list[str] = []
            at = item
            while at.kind != "root" and at.parent_id in self.items and len(path) < 50:
                path.append(at.name or "")
                at = self.items[at.parent_id]
            if at.kind == "root" and item.kind == "file":
                found["/".join(reversed(path))] = item.version
        return found


async def follow(client: DriveClient, follower: Follower, *, size: int = 1000, pages_max: int = 500) -> None:
    for _ in range(pages_max):
        try:
            page = await changes.next_page(client, follower.root_id, follower.cursor, size=size)
        except CursorExpired:
            follower.cursor = None
            follower.told.clear()
            continue
        follower.apply(page)
        if not page.more:
            return
    raise AssertionError("the pages do not end")


def actual(drive: DriveEmulator, root: str) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    left = [(root, "")]
    for folder_id, above in left:
        for one in drive.corpus.children(folder_id):
            if drive.corpus.trashed(one):
                continue
            if one.mime == FOLDER:
                left.append((one.id, f"{above}{one.name}/"))
            elif one.blob is not None:
                found[above + one.name] = f"md5:{one.blob.hashes['md5'].hex()}+{one.revision}"
    return found


async def test_a_run_over_everything_tells_what_there_is_and_then_what_changes(
    account: Account, drive: DriveEmulator, root: str
) -> None:
    for n in range(7):
        drive.put(f"{n}.txt", b"%d" % n, parent=drive.folder(f"Fleet/Requests/truck-{n % 2}"))
    drive.put("outside.txt", b"x")
    drive.corpus.make("Plan", "application/vnd.google-apps.document", root)
    client, follower = account.client(), Follower(root)
    await follow(client, follower, size=3)
    assert follower.files() == actual(drive, root)
    assert len(follower.files()) == 7
    before = follower.pages
    await follow(client, follower)
    assert follower.pages == before + 1
    drive.put("new.txt", b"new", parent=drive.folder("Fleet/Requests/truck-1"))
    drive.write(next(iter(drive.corpus.children(drive.folder("Fleet/Requests/truck-0")))).id, b"rewritten")
    await follow(client, follower)
    assert follower.files() == actual(drive, root)


async def test_what_changes_while_everything_is_listed_is_not_lost(
    account: Account, drive: DriveEmulator, root: str
) -> None:
    ids = [drive.put(f"{n}.txt", b"%d" % n, parent=root).id for n in range(12)]
    client, follower = account.client(), Follower(root)
    for step in range(4):
        follower.apply(await changes.next_page(client, root, follower.cursor, size=3))
        drive.delete(ids.pop())
        drive.change(ids[step], name=f"renamed-{step}.txt")
        ids.append(drive.put(f"late-{step}.txt", b"late", parent=root).id)
    await follow(client, follower, size=3)
    assert follower.files() == actual(drive, root)


async def test_an_account_that_is_told_without_order_is_listed_all_the_same(
    account: Account, drive: DriveEmulator, root: str
) -> None:
    drive.ignore_order = True
    for n in range(20):
        drive.put(f"{n}.txt", b"%d" % n, parent=root)
    client, follower = account.client(), Follower(root)
    await follow(client, follower, size=7)
    assert len(follower.files()) == 20


async def test_a_folder_that_comes_back_brings_what_is_below_it(
    account: Account, drive: DriveEmulator, root: str
) -> None:
    inner = drive.folder("Fleet/Requests/truck-7/2026/11")
    for n in range(5):
        drive.put(f"{n}.txt", b"%d" % n, parent=inner)
    elsewhere = drive.folder("Elsewhere/truck-8")
    drive.put("old.txt", b"old", parent=elsewhere)
    client, follower = account.client(), Follower(root)
    await follow(client, follower)
    there = follower.files()
    drive.change(drive.folder("Fleet/Requests"), trashed=True)
    await follow(client, follower)
    assert follower.files() == {}
    drive.change(drive.corpus.file(drive.corpus.children(root)[0].id).id, trashed=False)
    await follow(client, follower, size=2)
    assert follower.files() == there
    drive.change(elsewhere, parent=drive.folder("Fleet/Requests"))
    await follow(client, follower)
    assert follower.files() == actual(drive, root)
    assert "Requests/truck-8/old.txt" in follower.files()


async def test_a_page_token_that_died_says_so(account: Account, drive: DriveEmulator, root: str) -> None:
    client, follower = account.client(), Follower(root)
    drive.put("a.txt", b"a", parent=root)
    await follow(client, follower)
    drive.delete(drive.corpus.children(root)[0].id)
    drive.put("b.txt", b"b", parent=root)
    drive.corpus.expire_tokens()
    with pytest.raises(CursorExpired):
        await changes.next_page(client, root, follower.cursor)
    await follow(client, follower)
    assert list(follower.files()) == ["b.txt"]
    for junk in ("", "{}", '{"token":1}', "\ud800", '{"token":"x"}'):
        with pytest.raises(CursorExpired):
            await changes.next_page(client, root, junk)


async def test_too_many_folders_to_list_again_are_a_run_over_everything(
    account: Account, drive: DriveEmulator, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "_WAITING_MAX", 3)
    client, follower = account.client(), Follower(root)
    await follow(client, follower)
    for n in range(5):
        drive.put("a.txt", b"a", parent=drive.folder(f"Fleet/Requests/truck-{n}"))
    await follow(client, follower)
    assert follower.files() == actual(drive, root)
    assert drive.calls["files.list"] == 2


async def test_folders_that_go_while_they_are_listed_again_hold_nothing(
    account: Account, drive: DriveEmulator, root: str
) -> None:
    client, follower = account.client(), Follower(root)
    await follow(client, follower)
    for n in range(4):
        drive.put("a.txt", b"a", parent=drive.folder(f"Fleet/Requests/truck-{n}"))
    follower.apply(await changes.next_page(client, root, follower.cursor))
    drive.delete(drive.folder("Fleet/Requests/truck-1"))
    drive.delete(drive.folder("Fleet/Requests/truck-2"))
    await follow(client, follower, size=1)
    assert follower.files() == actual(drive, root)
    assert len(follower.files()) == 2


async def test_a_root_that_is_gone_is_trouble_and_not_the_end_of_all_files(
    account: Account, drive: DriveEmulator, root: str
) -> None:
    drive.put("a.txt", b"a", parent=root)
    client, follower = account.client(), Follower(root)
    await follow(client, follower)
    drive.change(root, trashed=True)
    with pytest.raises(StoreUnavailable, match="restore it"):
        await follow(client, follower)
    drive.change(root, trashed=False)
    await follow(client, follower)
    assert list(follower.files()) == ["a.txt"]


async def test_changes_of_a_shared_drive_are_apart(account: Account, drive: DriveEmulator, root: str) -> None:
    shared = drive.corpus.make_drive("Depot")
    client, follower = account.client(drive_id=shared), Follower(shared)
    drive.put("a.txt", b"a", parent=shared)
    drive.put("mine.txt", b"m", parent=root)
    await follow(client, follower)
    assert list(follower.files()) == ["a.txt"]
    drive.put("b.txt", b"b", parent=shared)
    await follow(client, follower)
    assert sorted(follower.files()) == ["a.txt", "b.txt"]


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_happens_the_pages_lead_to_what_is_there(
    account: Account, drive: DriveEmulator, root: str, seed: int
) -> None:
    random = Random(seed)
    outside = drive.folder("Outside")
    client, follower = account.client(), Follower(root)
    for _ in range(25):
        for _ in range(random.randrange(6)):
            _change_something(drive, random, [root, outside])
        if random.random() < 0.08:
            drive.corpus.expire_tokens()
        if random.random() < 0.2:
            kind = random.choice(["lose_answer", "cut_answer", "cut_request"])
            drive.script.add(Fault(random.choice(["changes.list", "files.list"]), kind, after_bytes=5))  # type: ignore[arg-type]
        try:
            follower.apply(await changes.next_page(client, root, follower.cursor, size=random.choice([1, 2, 5])))
        except CursorExpired:
            follower.cursor = None
            follower.told.clear()
    drive.script.clear()
    await follow(client, follower)
    assert follower.files() == actual(drive, root)


def _change_something(drive: DriveEmulator, random: Random, roots: list[str]) -> None:
    files = [one for one in drive.corpus.files.values() if one.parent is not None and one.id not in roots]
    folders = [*roots, *(one.id for one in files if one.mime == FOLDER)]
    one = random.choice(files) if files else None
    match random.randrange(8) if one is not None else 0:
        case 0 | 1:
            drive.put(f"f{random.randrange(10**9)}", random.randbytes(3), parent=random.choice(folders))
        case 2:
            drive.folder(f"d{random.randrange(10**9)}", parent=random.choice(folders))
        case 3:
            assert one is not None
            drive.change(one.id, name=f"r{random.randrange(10**9)}")
        case 4:
            assert one is not None
            target = random.choice(folders)
            at: str | None = target
            while at is not None and at != one.id:
                at = drive.corpus.file(at).parent
            if at is None:
                drive.change(one.id, parent=target)
        case 5:
            assert one is not None
            drive.change(one.id, trashed=not one.trashed_itself)
        case 6:
            assert one is not None
            drive.delete(one.id)
        case _:
            assert one is not None
            if one.blob is not None:
                drive.write(one.id, random.randbytes(3))


async def test_a_channel_is_made_renewed_beside_the_old_one_and_ended(
    provider: DriveProvider, drive: DriveEmulator
) -> None:
    first = await provider.subscribe("http://127.0.0.1:9/hook", "secret", lifetime_s=7200)
    assert drive.channels.open[first.subscription_id].token == "secret"
    assert abs(first.expires_at - drive.clock.now() - 7200) < 60
    second = await provider.renew(first, "http://127.0.0.1:9/hook", "secret", lifetime_s=10**8)
    assert second.expires_at - drive.clock.now() <= 604_800
    assert set(drive.channels.open) == {first.subscription_id, second.subscription_id}
    await provider.unsubscribe(first)
    await provider.unsubscribe(first)
    assert set(drive.channels.open) == {second.subscription_id}
