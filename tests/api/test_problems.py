import re
from pathlib import Path
from random import Random

import orjson

from api.problems import PROBLEMS, Problem, problem_response

DOCUMENTS = sorted((Path(__file__).parents[2] / "docs").glob("protocol*.md"))


def test_the_document_lists_exactly_these_problems_with_their_status() -> None:
    text = "".join(path.read_text("utf-8") for path in DOCUMENTS)
    table = re.search(r"^\| `type` `urn:fleetwire:problem:…` .*\n(?:\|.*\n)+", text, re.MULTILINE)
    assert table is not None
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \|", table[0], re.MULTILINE))
    assert {slug: int(status) for slug, status in rows.items()} == {
        slug: kind.status for slug, kind in PROBLEMS.items()
    }


def test_a_problem_says_what_happened_and_when_to_come_back() -> None:
    response = problem_response(Problem("unavailable", "why", field="x"), "id-1", Random(1))
    assert orjson.loads(response.body) == {
        "type": "urn:fleetwire:problem:unavailable",
        "title": "Not available now",
        "status": 503,
        "detail": "why",
        "request_id": "id-1",
        "field": "x",
    }
    waits = {problem_response(Problem("unavailable", "why"), "i", Random(n)).headers["retry-after"] for n in range(50)}
    assert waits == {"1", "2", "3", "4", "5"}
