"""A provider at an S3 of its own process, with a prefix of its own for every test."""

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from random import Random

import pytest

from loadtests.s3_process import KEY, S3Server, running_s3
from shared.cloud.http import HttpClient
from shared.cloud.retrying import RetryPolicy
from shared.cloud.s3.client import S3Client
from shared.cloud.s3.provider import S3Provider

QUICK = RetryPolicy(tries=5, base_s=0.01, cap_s=0.05)
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with running_s3() as running:
        yield running


@pytest.fixture
def s3(s3_server: S3Server) -> Iterator[S3Server]:
    s3_server.order()
    s3_server.calls()
    yield s3_server
    s3_server.order()


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    client = HttpClient(deadline_s=20.0, policy=QUICK, rand=Random(1))
    yield client
    await client.close()


@pytest.fixture
def prefix() -> str:
    """Where no other test writes."""
    return f"test {next(_numbers)}/ä"


@pytest.fixture
def client_of(s3: S3Server, http: HttpClient) -> Callable[[str], S3Client]:
    """A client that finds the server at another address, if one is given."""

    def made(url: str = "") -> S3Client:
        bucket = s3.bucket if not url else type(s3.bucket)(s3.bucket.name, s3.bucket.region, url)
        return S3Client(bucket, KEY, http, rand=Random(1))

    return made


@pytest.fixture
async def provider(client_of: Callable[[], S3Client], prefix: str) -> AsyncIterator[S3Provider]:
    made = S3Provider(client_of(), prefix=prefix, part_size=5 * 1024 * 1024)
    yield made
    await made.close()
