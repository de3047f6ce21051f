from checklist_handler import ChecklistHandler

from worker.testing import try_handler, try_installed


def test_what_is_open_is_listed() -> None:
    tried = try_handler(ChecklistHandler(), "van.checklist", "[x] brakes\n[ ] tyres\n[ ] lights\n")
    assert tried.files == {"open.txt": b"tyres\nlights\n"}
    assert tried.summary == {"items": 3, "open": 2}


def test_what_is_no_checklist_is_refused_with_the_reason() -> None:
    tried = try_handler(ChecklistHandler(), "van.checklist", "dear driver")
    assert tried.outcome == "unreadable"
    assert "brakes" in str(tried.detail)


def test_a_worker_finds_it() -> None:
    assert try_installed("van.checklist", "[x] brakes\n").handler == "checklist"
