"""Templates made by REST."""

from typing import Any

import httpx

PATH = "/api/v1/templates"


async def make_template(client: httpx.AsyncClient, name: str = "Daily", **body: Any) -> dict[str, Any]:
    """A new template as it is answered."""
    answer = await client.post(PATH, json={"name": name, "body": body or {"fields": ["left", "right"]}})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"{PATH}/{made['template_id']}"
    return made


async def change_template(
    client: httpx.AsyncClient, template_id: str, version: int, name: str = "Daily", **body: Any
) -> dict[str, Any]:
    """The version after this one."""
    answer = await client.put(
        f"{PATH}/{template_id}", json={"name": name, "body": body}, headers={"If-Match": f'"{version}"'}
    )
    assert answer.status_code == 200, answer.text
    changed: dict[str, Any] = answer.json()
    assert changed["version"] == version + 1
    return changed
