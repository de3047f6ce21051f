"""Pages of other sites: nothing for anybody unless their origin is named, and never with credentials."""

import pytest

from api.cors import parse_origins
from shared.settings import SettingsError
from tests.api.conftest import RunningApi, StartApi, problem

APP = "https://app.example"
PREFLIGHT = {"Origin": APP, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


async def test_unless_origins_are_named_no_answer_speaks_of_them_and_each_says_what_browsers_must_not_do(
    api: RunningApi,
) -> None:
    client = api.client(Origin=APP)
    for path in ("/health", "/nothing", "/api/v1/jobs", "/%41"):
        answer = await client.get(path)
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    problem(await client.options("/api/v1/sync/batch", headers=PREFLIGHT), 405, "method-not-allowed")


async def test_a_page_of_a_named_origin_may_ask_and_another_is_told_nothing(start_api: StartApi) -> None:
    api = await start_api(FLEETWIRE_API_CORS_ORIGINS=f"{APP}, http://localhost:3000")
    # A preflight has no token.
    answer = await api.client().options("/api/v1/sync/batch", headers=PREFLIGHT)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == APP
    assert "Authorization" in answer.headers["access-control-allow-headers"]
    assert "PATCH" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-max-age"] == "600"
    assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in answer.headers

    # Its page may read every answer, also a refusal.
    refused = await api.client(Origin=APP).get("/api/v1/jobs")
    problem(refused, 401, "unauthorized")
    assert refused.headers["access-control-allow-origin"] == APP
    assert "Retry-After" in refused.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in refused.headers

    for other in ("https://app.example.evil.example", "http://app.example", "null", APP + "/"):
        answer = await api.client(Origin=other).get("/health")
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["vary"] == "Origin"  # caches must mind
        preflight = await api.client().options("/health", headers=PREFLIGHT | {"Origin": other})
        problem(preflight, 405, "method-not-allowed")


async def test_all_origins_may_be_let_in_still_without_credentials(start_api: StartApi) -> None:
    api = await start_api(FLEETWIRE_API_CORS_ORIGINS="*")
    answer = await api.client(Origin=APP).get("/health")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers
    assert (await api.client().options("/health", headers=PREFLIGHT)).status_code == 204


@pytest.mark.parametrize(
    "raw", ["app.example", "https://app.example/", "https://*.example", "*,https://a.example", "https://A.example", ","]
)
async def test_origins_are_exact(start_api: StartApi, raw: str) -> None:
    with pytest.raises(SettingsError, match="FLEETWIRE_API_CORS_ORIGINS"):
        await start_api(FLEETWIRE_API_CORS_ORIGINS=raw)


def test_origins_are_read_as_browsers_send_them() -> None:
    assert parse_origins("https://a.example,http://[::1]:3000") == {"https://a.example", "http://[::1]:3000"}
