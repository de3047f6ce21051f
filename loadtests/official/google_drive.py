"""google-api-python-client, unchanged, at the emulated Google Drive: only the address in its document is another."""

import hashlib
import io
import json
import uuid
from typing import Any

from google.oauth2.service_account import Credentials
from googleapiclient.discovery import build_from_document
from googleapiclient.discovery_cache import get_static_doc
from googleapiclient.errors import HttpError
from googleapiclient.http import MediaIoBaseDownload, MediaIoBaseUpload
from report import given, run  # type: ignore[import-not-found]

TOLD = given()
FOLDER = "application/vnd.google-apps.folder"
FIELDS = "id,name,parents,size,md5Checksum,sha256Checksum,trashed,headRevisionId"


def service() -> Any:
    """The library's service, from its own document of the API."""
    document = json.loads(get_static_doc("drive", "v3"))
    for name in ("rootUrl", "mtlsRootUrl", "baseUrl"):
        document[name] = TOLD["url"] + ("/drive/v3/" if name == "baseUrl" else "/")
    scopes = ["https://www.googleapis.com/auth/drive"]
    credentials = Credentials.from_service_account_file(TOLD["key_file"], scopes=scopes)
    return build_from_document(document, credentials=credentials)


def refusal(request: Any) -> Any:
    """The error that a request ends with."""
    try:
        request.execute()
    except HttpError as error:
        return error
    raise AssertionError("it was not refused")


def control(**orders: Any) -> Any:
    """What the emulator is told from outside."""
    return json.loads(drive._http.request(TOLD["url"] + "/control", "POST", body=json.dumps(orders))[1])


drive = service()
known: dict[str, Any] = {}


def about() -> None:
    said = drive.about().get(fields="user(emailAddress),storageQuota").execute()
    assert said["user"]["emailAddress"].startswith("fleet@")


def folder() -> None:
    known["folder"] = drive.files().create(body={"name": "Fleet", "mimeType": FOLDER}, fields="id").execute()["id"]
    known["start"] = drive.changes().getStartPageToken().execute()["startPageToken"]


def small_upload() -> None:
    media = MediaIoBaseUpload(io.BytesIO(b"small"), "text/plain")
    made = drive.files().create(body={"name": "a.txt", "parents": [known["folder"]]}, media_body=media, fields=FIELDS)
    known["small"] = made.execute()
    assert known["small"]["md5Checksum"] == hashlib.md5(b"small").hexdigest()
    assert known["small"]["size"] == "5"
    again = drive.files().create(body={"name": "a.txt", "parents": [known["folder"]]}, fields="id").execute()
    assert again["id"] != known["small"]["id"], "names may repeat"


def resumable_upload() -> None:
    content = bytes(range(256)) * 12_000
    media = MediaIoBaseUpload(io.BytesIO(content), "application/x-big", chunksize=4 * 262_144, resumable=True)
    request = drive.files().create(body={"name": "big", "parents": [known["folder"]]}, media_body=media, fields=FIELDS)
    steps, answer = [], None
    while answer is None:
        status, answer = request.next_chunk()
        if status is not None:
            steps.append(status.resumable_progress)
    assert steps == [1_048_576, 2_097_152], steps
    assert answer["sha256Checksum"] == hashlib.sha256(content).hexdigest()
    known["big"], known["content"] = answer, content


def resumable_upload_with_faults() -> None:
    control(faults=[{"call": "upload.put", "status": 503, "times": 2, "skip": 1}])
    media = MediaIoBaseUpload(io.BytesIO(known["content"]), "application/x-big", chunksize=4 * 262_144, resumable=True)
    request = drive.files().create(body={"name": "big2", "parents": [known["folder"]]}, media_body=media, fields=FIELDS)
    answer: Any = None
    refused: list[int] = []
    while answer is None:
        # As its documents say: after an error the library asks how far the session came. (Its own retries of a chunk
        # send the bytes that are left of a stream that was read already: none.)
        try:
            _, answer = request.next_chunk()
        except HttpError as error:
            refused.append(error.status_code)
    assert refused == [503, 503], refused
    assert answer["sha256Checksum"] == hashlib.sha256(known["content"]).hexdigest()


def empty_resumable_upload() -> None:
    media = MediaIoBaseUpload(io.BytesIO(b""), "text/plain", resumable=True)
    answer = drive.files().create(body={"name": "empty"}, media_body=media, fields="id,size").execute()
    assert answer["size"] == "0"


def new_content() -> None:
    media = MediaIoBaseUpload(io.BytesIO(b"other"), "text/plain", resumable=True)
    answer = drive.files().update(fileId=known["small"]["id"], media_body=media, fields=FIELDS).execute()
    assert answer["md5Checksum"] == hashlib.md5(b"other").hexdigest()
    assert answer["headRevisionId"] != known["small"]["headRevisionId"]


def download() -> None:
    got = io.BytesIO()
    reading = MediaIoBaseDownload(got, drive.files().get_media(fileId=known["big"]["id"]), chunksize=1_000_000)
    done = False
    while not done:
        _, done = reading.next_chunk()
    assert got.getvalue() == known["content"]


def list_pages() -> None:
    names, request = [], drive.files().list(q=f"'{known['folder']}' in parents and trashed = false", pageSize=2)
    while request is not None:
        answer = request.execute()
        names += [one["name"] for one in answer["files"]]
        request = drive.files().list_next(request, answer)
    assert sorted(names) == ["a.txt", "a.txt", "big", "big2"], names


def ids_beforehand() -> None:
    made_id = drive.files().generateIds(count=3).execute()["ids"][0]
    drive.files().create(body={"id": made_id, "name": "once"}, fields="id").execute()
    refused = refusal(drive.files().create(body={"id": made_id, "name": "twice"}, fields="id"))
    assert refused.status_code == 409, refused


def move_and_trash() -> None:
    other = drive.files().create(body={"name": "Other", "mimeType": FOLDER}, fields="id").execute()["id"]
    file_id = known["small"]["id"]
    request = drive.files().update(
        fileId=file_id, addParents=other, removeParents=known["folder"], body={"name": "b.txt"}, fields=FIELDS
    )
    assert request.execute()["parents"] == [other]
    assert drive.files().update(fileId=file_id, body={"trashed": True}, fields="trashed").execute()["trashed"]
    drive.files().delete(fileId=known["big"]["id"]).execute()


def changes() -> None:
    seen: dict[str, Any] = {}
    token, fields = known["start"], "nextPageToken,newStartPageToken,changes(fileId,removed,file(name,trashed))"
    while token is not None:
        page = drive.changes().list(pageToken=token, pageSize=3, fields=fields).execute()
        seen |= {one["fileId"]: one for one in page["changes"]}
        token = page.get("nextPageToken")
        assert (token is None) == ("newStartPageToken" in page)
    assert seen[known["small"]["id"]]["file"]["trashed"] is True
    assert seen[known["big"]["id"]]["removed"] is True


def bad_page_token() -> None:
    refused = refusal(drive.changes().list(pageToken="nonsense"))
    assert refused.status_code == 400
    assert refused.error_details[0]["location"] == "pageToken", refused.error_details


def channel() -> None:
    body = {"id": str(uuid.uuid4()), "type": "web_hook", "address": "https://localhost/hook", "token": "secret"}
    made = drive.changes().watch(pageToken=known["start"], body=body).execute()
    assert made["kind"] == "api#channel"
    assert int(made["expiration"]) > 0
    drive.channels().stop(body={"id": made["id"], "resourceId": made["resourceId"]}).execute()


def limits() -> None:
    control(faults=[{"call": "files.list", "status": 403, "reason": "userRateLimitExceeded", "times": 2}])
    # The library knows this reason as one to try again after.
    drive.files().list(pageSize=1).execute(num_retries=3)


def shared_drive() -> None:
    drive_id = control(drive="Depot")["id"]
    assert drive.drives().get(driveId=drive_id).execute()["name"] == "Depot"
    drive.files().create(body={"name": "x", "parents": [drive_id]}, supportsAllDrives=True).execute()
    found = drive.files().list(
        corpora="drive", driveId=drive_id, includeItemsFromAllDrives=True, supportsAllDrives=True
    )
    assert [one["name"] for one in found.execute()["files"]] == ["x"]


run(
    [
        ("about", about),
        ("folder and start token", folder),
        ("upload at once, names repeat", small_upload),
        ("resumable upload", resumable_upload),
        ("resumable upload, 503 twice", resumable_upload_with_faults),
        ("resumable upload of nothing", empty_resumable_upload),
        ("new content by a session", new_content),
        ("download in ranges", download),
        ("list by pages", list_pages),
        ("ids made beforehand, 409", ids_beforehand),
        ("move, trash, delete", move_and_trash),
        ("changes", changes),
        ("page token that is none", bad_page_token),
        ("channel and its end", channel),
        ("403 userRateLimitExceeded is retried", limits),
        ("shared drive", shared_drive),
    ]
)
