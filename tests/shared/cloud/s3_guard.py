"""What stands in front of the S3 of these tests and checks what it leaves unchecked, on the bytes as they come.

Signatures, by Amazon's own implementation; that a signed address is not over; that the body is what its checksum says.
"""

import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, quote

import httpx
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from shared.asgi_server import AsgiServer

_PASSED_ON = ("content-type", "if-none-match", "authorization", "x-amz-")


class Guard:
    """An ASGI application; `refused` says why, newest last."""

    def __init__(self, upstream: str, key_id: str, secret: str) -> None:
        self._upstream = upstream
        self._credentials = Credentials(key_id, secret)
        self._client = httpx.AsyncClient(trust_env=False)
        self.refused: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()
        problem = self._problem(request, body)
        if problem is not None:
            self.refused.append(problem)
            status = 400 if problem == "BadDigest" else 403
            await Response(f"<Error><Code>{problem}</Code></Error>", status)(scope, receive, send)
            return
        query = scope["query_string"].decode()
        url = f"{self._upstream}{scope['raw_path'].decode()}{f'?{query}' if query else ''}"
        headers = {name: value for name, value in request.headers.items() if name.startswith(_PASSED_ON)}
        answer = await self._client.request(request.method, url, content=body, headers=headers)
        kept = {name: value for name, value in answer.headers.items() if name not in ("connection", "server", "date")}
        await Response(answer.content, answer.status_code, kept)(scope, receive, send)

    def _problem(self, request: Request, body: bytes) -> str | None:
        checksum = request.headers.get("x-amz-checksum-sha256")
        query = parse_qsl(request.scope["query_string"].decode(), keep_blank_values=True)
        is_signed, at = self._judged(request, dict(query), query)
        if not is_signed:
            return "SignatureDoesNotMatch"
        if not at[0] - timedelta(minutes=15) <= datetime.now(UTC) <= at[1]:
            return "AccessDenied: expired"
        if checksum is not None and base64.b64decode(checksum) != hashlib.sha256(body).digest():
            return "BadDigest"
        return None

    def _judged(
        self, request: Request, fields: dict[str, str], query: list[tuple[str, str]]
    ) -> tuple[bool, tuple[datetime, datetime]]:
        """Whether the signature holds, and from when until when."""
        if "X-Amz-Signature" in fields:
            signed, given = fields["X-Amz-SignedHeaders"], fields["X-Amz-Signature"]
            stamp, scope, lifetime_s = fields["X-Amz-Date"], fields["X-Amz-Credential"], int(fields["X-Amz-Expires"])
            pairs = [(name, value) for name, value in query if name != "X-Amz-Signature"]
            raw = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in pairs)
            auth: Any = S3SigV4QueryAuth(self._credentials, "s3", scope.split("/")[2])
        else:
            parts = dict(
                part.split("=", 1) for part in request.headers.get("authorization", "x y=").partition(" ")[2].split(",")
            )
            signed, given, raw = parts.get("SignedHeaders", ""), parts.get("Signature", ""), ""
            stamp, scope, lifetime_s = request.headers.get("x-amz-date", ""), parts.get("Credential", ""), 900
            if not stamp:
                return False, (datetime.min.replace(tzinfo=UTC),) * 2
            auth = S3SigV4Auth(self._credentials, "s3", scope.split("/")[2])
        path = request.scope["raw_path"].decode()
        host = request.headers["host"]
        headers = {name: request.headers.get(name, "") for name in signed.split(";") if name != "host"}
        rebuilt = AWSRequest(request.method, f"http://{host}{path}{f'?{raw}' if raw else ''}", headers=headers)
        rebuilt.context["timestamp"] = stamp
        wanted = auth.signature(auth.string_to_sign(rebuilt, auth.canonical_request(rebuilt)), rebuilt)
        since = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        is_ours = scope.split("/")[0] == self._credentials.access_key
        return is_ours and wanted == given, (since, since + timedelta(seconds=lifetime_s))

    async def close(self) -> None:
        await self._client.aclose()


@asynccontextmanager
async def guarding(upstream: str, key_id: str, secret: str) -> AsyncIterator[tuple[str, Guard]]:
    """Its address, and the guard."""
    guard = Guard(upstream, key_id, secret)
    server = AsgiServer(guard, "127.0.0.1", 0, setting="(test)", close_s=0.2, ws="none")
    await server.start()
    try:
        yield f"http://127.0.0.1:{server.port}", guard
    finally:
        await server.close()
        await guard.close()
