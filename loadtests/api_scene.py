"""What the examples of the published document speak of: a truck, its event, job, response, photo and inspection.

The ids are those of `api/description.py`. `redraw` puts job and inspection back where an example needs them.
"""

from typing import Final

import asyncpg

from api.description import PATH_PARAMETERS, REQUEST_HEADERS

__all__ = ["draw", "redraw"]

# What state has to be brought about for the operations that change it.
_JOB_STATES: Final = {"cancelJob": "queued", "redriveJob": "dead"}
_INSPECTION_STATES: Final = {
    "updateInspection": "draft",
    "submitInspection": "draft",
    "deleteInspection": "draft",
    "approveInspection": "submitted",
    "rejectInspection": "submitted",
    "reopenInspection": "rejected",
}

_SCENE: Final = """
INSERT INTO devices (device_id, class, epoch, head_seq) SELECT 'truck-7', 'truck', max(epoch), 1 FROM log_identity;
INSERT INTO cursors (device_id, epoch) SELECT device_id, epoch FROM devices;
INSERT INTO events (device_id, seq, event_id, type, body)
VALUES ('truck-7', 1, 'first', 'RouteChanged',
        '{"specversion":"1.0","type":"RouteChanged","id":"first","source":"/scene","data":{"route":"A8"}}');
INSERT INTO hubs (name, instance, url, heartbeat_at, capacity)
VALUES ('hub-1', 'scene', 'ws://127.0.0.1:8101', clock_timestamp() + interval '1 day', 500);
INSERT INTO jobs (job_id, queue, kind, device_id, store, path, name, size, content_version)
VALUES ('{job_id}', 'requests', 'table', 'truck-7', 'local', 'Requests/truck-7/load.csv', 'load.csv', 10,
        repeat('0', 64));
INSERT INTO job_status (job_id, status) VALUES ('{job_id}', 'queued');
INSERT INTO responses (response_id, device_id, job_id, request_name, store, folder, outcome, event_id, completed_at)
VALUES ('{file_id}', 'truck-7', NULL, 'load.csv', 'local', 'Responses/truck-7/load.1', 'ready', 'first',
        clock_timestamp());
INSERT INTO response_files (file_id, response_id, device_id, store, path, name, size, sha256, content_type)
VALUES ('{file_id}', '{file_id}', 'truck-7', 'local', 'Responses/truck-7/load.1/response.json', 'response.json', 10,
        repeat('ab', 32), 'application/json');
INSERT INTO templates (template_id, name, version, body) VALUES ('{template_id}', 'Truck, daily', 1, '{}');
INSERT INTO template_versions (template_id, version, name, body, created_by)
VALUES ('{template_id}', 1, 'Truck, daily', '{}', 'operator:scene');
INSERT INTO inspections (inspection_id, inspector_id, template_id, template_version, status, title, answers, version)
VALUES ('{inspection_id}', 'truck-7', '{template_id}', 1, 'draft', 'Truck 7, evening', '{}', 1);
INSERT INTO feeds (feed_id, provider, root, hook_secret)
VALUES ('drive:fleet', 'drive:fleet', 'fleet', '{channel_token}');
INSERT INTO schedules (name, every_s, timezone, device_ids, kind, request_name, body, next_at, created_by)
VALUES ('{schedule}', 3600, 'UTC', '{truck-7}', 'table', 'daily.csv', 'sku,count',
        clock_timestamp() + interval '1 hour', 'operator:scene');
INSERT INTO photos (photo_id, principal, inspection_id, store, object_key, name, content_type, size, sha256, status,
                    expires_at, confirmed_at)
VALUES ('{photo_id}', 'device:truck-7', '{inspection_id}', 'local', 'Photos/ab/load', 'load.jpg', 'image/jpeg', 10,
        repeat('ab', 32), 'stored', clock_timestamp(), clock_timestamp());
"""
_JOB: Final = """
UPDATE jobs SET current_status = $2, finished_at = CASE WHEN $2 = 'dead' THEN clock_timestamp() END WHERE job_id = $1
"""


async def draw(connection: asyncpg.Connection) -> None:
    """Make all of it, in a database that has only been migrated."""
    statements = _SCENE
    for name, parameter in PATH_PARAMETERS.items():
        statements = statements.replace(f"{{{name}}}", str(parameter.example))
    statements = statements.replace("{channel_token}", str(REQUEST_HEADERS["X-Goog-Channel-Token"].example))
    await connection.execute(statements)


_INSPECTION: Final = """
UPDATE inspections SET status = $2, version = 1, is_deleted = false,
                       submitted_at = CASE WHEN $2 <> 'draft' THEN clock_timestamp() END,
                       decided_at = CASE WHEN $2 = 'rejected' THEN clock_timestamp() END WHERE inspection_id = $1
"""


async def redraw(connection: asyncpg.Connection, operation_id: str) -> None:
    """Bring about what the example of this operation is about to change."""
    if (state := _JOB_STATES.get(operation_id)) is not None:
        await connection.execute(_JOB, str(PATH_PARAMETERS["job_id"].example), state)
    if (state := _INSPECTION_STATES.get(operation_id)) is not None:
        await connection.execute(_INSPECTION, str(PATH_PARAMETERS["inspection_id"].example), state)
