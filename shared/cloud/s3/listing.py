"""Listings, page by page."""

from collections.abc import AsyncIterator
from typing import Final

from shared.cloud.errors import StoreUnavailable
from shared.cloud.s3.client import S3Client
from shared.cloud.s3.wire import BadXml, ListPage, list_page

__all__ = ["PAGE_MAX", "Listing"]

PAGE_MAX: Final = 1000
_PAGES_MAX: Final = 1_000_000


class Listing:
    """Of one bucket."""

    def __init__(self, client: S3Client, *, page_max: int = PAGE_MAX) -> None:
        self._client = client
        self._page_max = page_max

    async def page(
        self, prefix: str, *, after: str | None = None, token: str | None = None, delimiter: str | None = None
    ) -> ListPage:
        """Up to a thousand keys that begin with `prefix` and come after `after`, in the order of their bytes."""
        query = {"list-type": "2", "prefix": prefix, "max-keys": str(self._page_max), "encoding-type": "url"}
        if token is not None:
            query["continuation-token"] = token
        elif after is not None:
            query["start-after"] = after
        if delimiter is not None:
            query["delimiter"] = delimiter
        answer = await self._client.ask("list", "GET", query=query)
        if answer.status != 200:
            raise self._client.error(answer, "list", prefix)
        try:
            return list_page(answer.body)
        except BadXml as error:
            raise self._client.strange("list", error) from None

    async def pages(self, prefix: str, *, delimiter: str | None = None) -> AsyncIterator[ListPage]:
        """All of them."""
        token: str | None = None
        for _ in range(_PAGES_MAX):
            page = await self.page(prefix, token=token, delimiter=delimiter)
            yield page
            if page.next_token is None:
                return
            if page.next_token == token:
                break
            token = page.next_token
        raise StoreUnavailable(f"{self._client.store}: the listing of {prefix!r} does not end")
