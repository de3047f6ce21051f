"""An S3 to test against: moto's server, made as strict as S3 is where moto is lenient, with faults on order.

What moto leaves out and is done here, before a request reaches it: signatures and their time, the hash of the body,
checksums of the body, of parts and of the whole (moto takes CRC-64/NVME for CRC-32); conditions on copies; uploads that
are not there. Its conditional writes look first and write then, in many threads: here one write is made at a time.
Writes go to memory; what is larger than 16 MB lies in unnamed temporary files.

`POST /_faults` takes a JSON list of faults (emulators/faults.py; kinds status, lose_answer, delay), `GET /_calls` says
how often each call was made, `DELETE /_calls` begins anew. Calls have boto's names: `PutObject`, `UploadPart`, …
"""

import argparse
import base64
import hashlib
import io
import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3 import models
from moto.s3.models import FakeKey, FakeMultipart, s3_backends
from werkzeug.serving import make_server

from loadtests.emulators.faults import Fault, FaultScript
from loadtests.s3_process import KEY
from shared.cloud.crc64nvme import combined, crc64_nvme, read, written

__all__ = ["Strict", "main"]

_ACCOUNT: Final = "123456789012"
_SKEW: Final = timedelta(minutes=15)

Environ = dict[str, Any]
StartResponse = Callable[..., Any]


class Problem(Exception):
    """A request that S3 would refuse."""

    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message or code


class Call:
    """A request as the checks see it."""

    def __init__(self, environ: Environ) -> None:
        self.method: str = environ["REQUEST_METHOD"]
        self.raw_path: str = str(environ["RAW_URI"]).partition("?")[0]
        self.pairs = parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        self.query: dict[str, str] = dict(self.pairs)
        self.bucket, _, self.key = unquote(self.raw_path).lstrip("/").partition("/")
        self.headers: dict[str, str] = {
            name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")
        }
        self.headers["content-type"] = environ.get("CONTENT_TYPE", "")
        self.headers["content-length"] = environ.get("CONTENT_LENGTH", "")
        self.body = b""

    def header(self, name: str) -> str:
        """Empty when it is not there."""
        return self.headers.get(name, "")

    @property
    def name(self) -> str:
        """As boto calls it."""
        query, copy = self.query, "x-amz-copy-source" in self.headers
        if not self.key:
            return "ListObjectsV2" if self.method == "GET" and "list-type" in query else f"{self.method} bucket"
        match self.method:
            case "PUT" if "partNumber" in query:
                return "UploadPartCopy" if copy else "UploadPart"
            case "PUT":
                return "CopyObject" if copy else "PutObject"
            case "POST":
                return "CreateMultipartUpload" if "uploads" in query else "CompleteMultipartUpload"
            case "DELETE":
                return "AbortMultipartUpload" if "uploadId" in query else "DeleteObject"
            case "GET":
                return "ListParts" if "uploadId" in query else "GetObject"
        return "HeadObject"


class Strict:
    """The WSGI application."""

    def __init__(self) -> None:
        self._inner = DomainDispatcherApplication(create_backend_app)
        self._credentials = Credentials(KEY.key_id, KEY.secret)
        self._lock = threading.RLock()
        self.script = FaultScript()
        self.calls: Counter[str] = Counter()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith("/_"):
            return self._control(environ, start_response)
        call = Call(environ)
        if environ.get("HTTP_TRANSFER_ENCODING", "").lower() == "chunked":
            return _refused(start_response, Problem(501, "NotImplemented", "a body without its length"))
        length = int(environ.get("CONTENT_LENGTH") or 0)
        call.body = environ["wsgi.input"].read(length) if length else b""
        environ["wsgi.input"] = io.BytesIO(call.body)
        with self._lock:
            self.calls[call.name] += 1
            fault = self.script.take(call.name)
        try:
            if fault is not None and fault.kind == "delay":
                time.sleep(fault.delay_s)
            if fault is not None and fault.kind == "status":
                raise Problem(fault.status, fault.reason or "InternalError")
            self._check(call)
            answered = self._answer(call, environ, start_response)
            if fault is not None and fault.kind == "lose_answer":
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
                raise ConnectionError("lost on order")
            return answered
        except Problem as problem:
            return _refused(start_response, problem, head=call.method == "HEAD")

    def _answer(self, call: Call, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if call.name == "ListParts":
            return self._listed_parts(call, environ, start_response)
        if call.method not in ("PUT", "POST", "DELETE"):
            return list(self._inner(environ, start_response))
        with self._lock:
            self._conditions(call)
            answered = list(self._inner(environ, start_response))
            if call.name == "UploadPart" and (part := _part(call)) is not None:
                part.checksum_value = call.header("x-amz-checksum-crc64nvme") or written(crc64_nvme(call.body))
                part.checksum_algorithm = "CRC64NVME"
            return answered

    def _listed_parts(self, call: Call, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """With their checksums."""
        with self._lock:
            upload = _uploads(call.bucket).get(call.query["uploadId"])
            if upload is None:
                raise Problem(404, "NoSuchUpload")
            answer: list[Any] = []
            body = b"".join(self._inner(environ, lambda *given: answer.extend(given)))

            def checked(found: re.Match[bytes]) -> bytes:
                crc = upload.parts[int(found[1])].checksum_value
                return found[0] + (f"<ChecksumCRC64NVME>{crc}</ChecksumCRC64NVME>".encode() if crc else b"")

            body = re.sub(rb"<PartNumber>(\d+)</PartNumber>", checked, body)
            headers = [(name, value) for name, value in answer[1] if name.lower() != "content-length"]
            start_response(answer[0], [*headers, ("Content-Length", str(len(body)))])
            return [body]

    # -- what moto does not look at

    def _check(self, call: Call) -> None:
        self._signature(call)
        announced = call.header("x-amz-content-sha256")
        if len(announced) == 64 and announced != hashlib.sha256(call.body).hexdigest():
            raise Problem(400, "XAmzContentSHA256Mismatch")
        if call.name == "CompleteMultipartUpload":
            return
        sha256 = call.header("x-amz-checksum-sha256")
        if sha256 and base64.b64decode(sha256) != hashlib.sha256(call.body).digest():
            raise Problem(400, "BadDigest")
        if (crc := call.header("x-amz-checksum-crc64nvme")) and read(crc) != crc64_nvme(call.body):
            raise Problem(400, "BadDigest")

    def _signature(self, call: Call) -> None:
        if "X-Amz-Signature" in call.query:
            signed, given = call.query["X-Amz-SignedHeaders"], call.query["X-Amz-Signature"]
            stamp, scope = call.query["X-Amz-Date"], call.query["X-Amz-Credential"]
            lifetime = timedelta(seconds=int(call.query["X-Amz-Expires"]))
            pairs = [(name, value) for name, value in call.pairs if name != "X-Amz-Signature"]
            auth: Any = S3SigV4QueryAuth(self._credentials, "s3", scope.split("/")[2])
        else:
            fields = dict(
                part.strip().split("=", 1) for part in call.header("authorization").partition(" ")[2].split(",") if part
            )
            if not {"SignedHeaders", "Signature", "Credential"} <= fields.keys():
                raise Problem(403, "AccessDenied")
            signed, given, scope = fields["SignedHeaders"], fields["Signature"], fields["Credential"]
            stamp, lifetime, pairs = call.header("x-amz-date"), _SKEW, call.pairs
            auth = S3SigV4Auth(self._credentials, "s3", scope.split("/")[2])
        if scope.split("/")[0] != self._credentials.access_key:
            raise Problem(403, "InvalidAccessKeyId")
        query = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in pairs)
        url = f"http://{call.header('host')}{call.raw_path}{f'?{query}' if query else ''}"
        headers = {name: call.header(name) for name in signed.split(";") if name != "host"}
        rebuilt = AWSRequest(call.method, url, headers=headers)
        rebuilt.context["timestamp"] = stamp
        wanted = auth.signature(auth.string_to_sign(rebuilt, auth.canonical_request(rebuilt)), rebuilt)
        if wanted != given:
            raise Problem(403, "SignatureDoesNotMatch")
        since = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if not since - _SKEW <= datetime.now(UTC) <= since + lifetime:
            raise Problem(403, "RequestTimeTooSkewed")

    def _conditions(self, call: Call) -> None:
        if (
            call.name in ("PutObject", "CopyObject")
            and call.header("if-none-match") == "*"
            and _object(call.bucket, call.key)
        ):
            raise Problem(412, "PreconditionFailed")
        if call.name in ("CopyObject", "UploadPartCopy"):
            bucket, _, key = unquote(call.header("x-amz-copy-source")).lstrip("/").partition("/")
            source, wanted = _object(bucket, key), call.header("x-amz-copy-source-if-match").strip('"')
            if source is None:
                raise Problem(404, "NoSuchKey")
            if wanted and source.etag.strip('"') != wanted:
                raise Problem(412, "PreconditionFailed")
        if call.name == "DeleteObject" and call.header("if-match"):
            found = _object(call.bucket, call.key)
            if found is not None and found.etag.strip('"') != call.header("if-match").strip('"'):
                raise Problem(412, "PreconditionFailed")
        if "uploadId" in call.query:
            self._upload_conditions(call)

    def _upload_conditions(self, call: Call) -> None:
        upload = _uploads(call.bucket).get(call.query["uploadId"])
        if upload is None:
            raise Problem(404, "NoSuchUpload")
        if call.name != "CompleteMultipartUpload":
            return
        if call.header("if-none-match") == "*" and _object(call.bucket, call.key):
            raise Problem(412, "PreconditionFailed")
        numbers = [int(number) for number in re.findall(rb"<PartNumber>(\d+)</PartNumber>", call.body)]
        if numbers != list(range(1, len(numbers) + 1)) and b"<Checksum" in call.body:
            raise Problem(400, "InvalidPartOrder")
        whole, size = 0, 0
        for number in upload.partlist:
            part = upload.parts[number]
            crc = read(part.checksum_value or "") if part.checksum_value else crc64_nvme(part.value)
            assert crc is not None
            whole, size = combined(whole, crc, part.contentsize), size + part.contentsize
        announced = call.header("x-amz-checksum-crc64nvme")
        if announced and read(announced) != whole:
            raise Problem(400, "BadDigest")
        if call.header("x-amz-mp-object-size") not in ("", str(size)):
            raise Problem(400, "InvalidRequest")

    # -- orders

    def _control(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        answer: Any = None
        with self._lock:
            match environ["REQUEST_METHOD"], environ["PATH_INFO"]:
                case "POST", "/_faults":
                    raw = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                    self.script.clear()
                    self.script.add(*(Fault(**one) for one in json.loads(raw)))
                case "GET", "/_calls":
                    answer = dict(self.calls)
                case "DELETE", "/_calls":
                    self.calls.clear()
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(answer).encode()]


def _refused(start_response: StartResponse, problem: Problem, *, head: bool = False) -> Iterable[bytes]:
    body = f"<Error><Code>{problem.code}</Code><Message>{problem.message}</Message></Error>".encode()
    start_response(
        f"{problem.status} {problem.code}",
        [("Content-Type", "application/xml"), ("Content-Length", "0" if head else str(len(body)))],
    )
    return [] if head else [body]


def _object(bucket: str, key: str) -> FakeKey | None:
    try:
        return s3_backends[_ACCOUNT]["aws"].get_object(bucket, key)
    except Exception:  # noqa: BLE001 - a bucket that is not there; moto says so itself
        return None


def _uploads(bucket: str) -> dict[str, FakeMultipart]:
    return s3_backends[_ACCOUNT]["aws"].get_bucket(bucket).multiparts


def _part(call: Call) -> FakeKey | None:
    upload = _uploads(call.bucket).get(call.query["uploadId"])
    return upload.parts.get(int(call.query["partNumber"])) if upload is not None else None


# -- what moto does wrongly


def _list_parts(upload: FakeMultipart, part_number_marker: int, max_parts: int) -> list[FakeKey]:
    """Those with higher numbers; moto takes the marker for a place in its list."""
    return [upload.parts[number] for number in upload.partlist if number > part_number_marker][:max_parts]


_compute_checksum: Callable[[bytes, str, bool], bytes] = vars(models)["compute_checksum"]


def _checksum(body: bytes, algorithm: str, encode_base64: bool = True) -> bytes:
    """Moto has no CRC-64/NVME without a library of Amazon's, and takes CRC-32 then."""
    if algorithm != "CRC64NVME":
        return _compute_checksum(body, algorithm, encode_base64)
    value = crc64_nvme(body)
    return written(value).encode() if encode_base64 else value.to_bytes(8, "big")


vars(models)["compute_checksum"] = _checksum
setattr(FakeMultipart, "list_parts", _list_parts)  # noqa: B010 - another type, of which only the elements are used


class _Handler(MotoRequestHandler):
    """HTTP/1.1, so that connections are kept as S3 keeps them; quiet."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log(self, *_: object) -> None:
        return


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--bucket", default="depot")
    arguments = parser.parse_args()
    s3_backends[_ACCOUNT]["aws"].create_bucket(arguments.bucket, "us-east-1")
    server = make_server("127.0.0.1", arguments.port, Strict(), threaded=True, request_handler=_Handler)
    print(json.dumps({"url": f"http://127.0.0.1:{server.server_port}"}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
