import json
import re
from pathlib import Path

import pytest

from tests.api.conftest import RunningApi, problem

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


async def test_the_page_takes_everything_from_the_process_that_serves_it(api: RunningApi) -> None:
    client = api.client()
    page = await client.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "unsafe" not in policy
    assert "http" not in policy
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert len(addresses) == 5
    for address in addresses:
        assert re.fullmatch(r"/(?!/).*", address), "an address of another origin"
        assert (await client.get(address)).status_code == 200, address


async def test_the_files_of_the_page_may_be_kept_for_good(api: RunningApi) -> None:
    client = api.client()
    address = re.search(r'src="([^"]*swagger-ui-bundle.js)"', (await client.get("/docs")).text)
    assert address is not None
    first = await client.get(address[1])
    assert first.headers["content-type"] == "text/javascript; charset=utf-8"
    assert first.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert len(first.content) > 1_000_000
    again = await client.get(address[1], headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["/docs/0123456789abcdef/swagger-ui.css", "/docs/{digest}/index.j2", "/docs/{digest}"])
async def test_no_other_file_of_the_package_is_given_out(api: RunningApi, path: str) -> None:
    client = api.client()
    digest = re.search(r"/docs/([0-9a-f]{16})/", (await client.get("/docs")).text)
    assert digest is not None
    problem(await client.get(path.format(digest=digest[1])), 404, "not-found")
