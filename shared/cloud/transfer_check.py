"""Whether an object has the bytes that were sent: by what its provider says of it, else by reading it.

A provider may take a while to know the hashes of what it was just given, so it is asked a few times before a file is
read back. What was just made here is only to be kept from damage, so any hash will do. What was found there may have
been made to look the same by somebody: short of a sha256 it is read.
"""

from collections.abc import Callable
from typing import Final

from shared.cloud.hash_kinds import ContentHashes, agree, proven
from shared.cloud.hashes import Digest
from shared.cloud.provider import Object, Provider
from shared.cloud.transfer_parts import Surroundings

__all__ = ["is_same"]

_LOOKS: Final = 4


async def is_same(
    provider: Provider,
    path: str,
    found: Object,
    hashes: ContentHashes,
    *,
    around: Surroundings,
    on_retry: Callable[[], None],
    ours: bool,
) -> bool:
    """Whether what is there has what the hashes were computed of. `ours`: it was made just now, by who asks."""
    says = agree if ours else proven
    object_id = found.object_id

    async def look() -> Object | None:
        return await provider.look(path, object_id=object_id)

    async def read() -> Digest:
        return (await provider.content(path, object_id=object_id))[1]

    now: Object | None = found
    for attempt in range(_LOOKS):
        if now is None or now.object_id != object_id or now.size != hashes.size:
            return False
        if (verdict := says(hashes.values(), now.hashes)) is not None:
            return verdict
        if now.hashes or not provider.capabilities.hashes:
            break
        await around.sleep(2.0**attempt)
        now = await around.persistently(look, on_retry)
    return await around.persistently(read, on_retry) == hashes.digest()
