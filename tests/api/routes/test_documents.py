import json
from pathlib import Path

from tests.api.conftest import RunningApi

DOCUMENT = "/api/v1/openapi.json"
FILE = Path(__file__).parents[3] / "docs" / "openapi.json"


async def test_anybody_is_given_the_document_that_docs_hold(api: RunningApi) -> None:
    answer = await api.client().get(DOCUMENT)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == json.loads(FILE.read_text("utf-8"))


async def test_who_has_the_document_is_not_sent_it_again(api: RunningApi) -> None:
    client = api.client()
    first = await client.get(DOCUMENT)
    again = await client.get(DOCUMENT, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert again.headers["cache-control"] == "public, no-cache"
    other = await client.get(DOCUMENT, headers={"If-None-Match": '"another"'})
    assert other.status_code == 200
