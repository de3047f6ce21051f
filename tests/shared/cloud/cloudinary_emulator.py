"""Cloudinary's upload API as far as we use it, from its documented wire: signatures checked, nothing overwritten.

`faults` is a script: what is to go wrong with the next requests of an action, in order.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shared.asgi_server import AsgiServer

CLOUD, KEY, SECRET = "depot", "415", "not told to anybody"
_VALID_S = 3600
_MAGIC = {b"\xff\xd8\xff": "jpg", b"\x89PNG": "png", b"GIF8": "gif"}


@dataclass
class Emulator:
    """One account of one product environment."""

    url: str = ""
    algorithm: str = "sha1"
    assets: dict[tuple[str, str], bytes] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: Request) -> Response:
        action = request.path_params["action"]
        self.asked.append(action)
        fields, file = _form(request.headers.get("content-type", ""), await request.body())
        fields |= dict(request.query_params)
        script = self.faults.get(action, [])
        fault = script.pop(0) if script else None
        if fault is not None and fault.isdigit():
            return JSONResponse({"error": {"message": "as scripted"}}, int(fault))
        if fault == "hang":
            await self.released.wait()
        if fault == "html":
            return Response("<html>We'll be back soon</html>", media_type="text/html")
        if fault == "huge":
            return Response(b" " * 1_000_000, media_type="application/json")
        if request.path_params["cloud"] != CLOUD or (problem := self._problem(fields)):
            return JSONResponse({"error": {"message": problem}}, 401)
        answer = getattr(self, f"_{action}")(fields, file)
        if fault == "forged" and isinstance(answer, dict):
            answer["signature"] = "0" * 40
        if fault == "another" and isinstance(answer, dict):
            answer |= self._asset("another", answer["type"], b"x")
        return answer if isinstance(answer, Response) else JSONResponse(answer)

    def _problem(self, fields: dict[str, str]) -> str | None:
        if fields.get("api_key") != KEY:
            return "Unknown API key"
        signed = sorted(
            f"{name}={value}".replace("&", "%26")
            for name, value in fields.items()
            if name not in ("api_key", "signature", "resource_type", "cloud_name", "file")
        )
        if self._hash("&".join(signed) + SECRET) != fields.get("signature"):
            return "Invalid Signature"
        if abs(time.time() - int(fields["timestamp"])) > _VALID_S:
            return "Stale request"
        return None

    def _upload(self, fields: dict[str, str], file: bytes | None) -> Response | dict[str, Any]:
        if file is None:
            return JSONResponse({"error": {"message": "Missing required parameter - file"}}, 400)
        kind = next((name for magic, name in _MAGIC.items() if file.startswith(magic)), "bin")
        if kind not in fields.get("allowed_formats", kind).split(","):
            return JSONResponse({"error": {"message": f"Image file format {kind} not allowed"}}, 400)
        key = fields["public_id"], fields.get("type", "upload")
        existing = key in self.assets and fields.get("overwrite") == "false"
        if not existing:
            self.assets[key] = file
        return self._asset(*key, self.assets[key]) | ({"existing": True} if existing else {})

    def _explicit(self, fields: dict[str, str], _: bytes | None) -> Response | dict[str, Any]:
        key = fields["public_id"], fields["type"]
        if key not in self.assets:
            return JSONResponse({"error": {"message": f"Resource not found - {key[0]}"}}, 404)
        return self._asset(*key, self.assets[key])

    def _destroy(self, fields: dict[str, str], _: bytes | None) -> dict[str, Any]:
        found = self.assets.pop((fields["public_id"], fields["type"]), None)
        return {"result": "ok" if found is not None else "not found"}

    def _download(self, fields: dict[str, str], _: bytes | None) -> Response:
        content = self.assets.get((fields["public_id"], fields["type"]))
        if content is None or int(fields["expires_at"]) < time.time():
            return Response(status_code=404)
        return Response(content, headers={"Content-Disposition": "attachment"})

    def _asset(self, public_id: str, kind: str, content: bytes) -> dict[str, Any]:
        version = 1_795_334_400
        return {
            "public_id": public_id,
            "version": version,
            "signature": self._hash(f"public_id={public_id}&version={version}{SECRET}"),
            "resource_type": "image",
            "type": kind,
            "bytes": len(content),
            "etag": hashlib.md5(content).hexdigest(),
        }

    def _hash(self, text: str) -> str:
        return hashlib.new(self.algorithm, text.encode()).hexdigest()


def _form(content_type: str, body: bytes) -> tuple[dict[str, str], bytes | None]:
    if not content_type.startswith("multipart/form-data"):
        return dict(parse_qsl(body.decode())), None
    message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    fields: dict[str, str] = {}
    file: bytes | None = None
    for part in message.iter_parts():
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        name = str(part.get_param("name", header="content-disposition"))
        if name == "file":
            file = content
        else:
            fields[name] = content.decode()
    return fields, file


@asynccontextmanager
async def running_emulator() -> AsyncIterator[Emulator]:
    """On a port of its own."""
    emulator = Emulator()
    route = Route("/v1_1/{cloud}/image/{action}", emulator.handle, methods=["GET", "POST"])
    server = AsgiServer(Starlette(routes=[route]), "127.0.0.1", 0, setting="(test)", close_s=0.2, ws="none")
    await server.start()
    emulator.url = f"http://127.0.0.1:{server.port}"
    try:
        yield emulator
    finally:
        emulator.released.set()
        await server.close()
