"""Variables that are named like settings."""

from infra.onebox.known_settings import known_names, unknown_settings


def test_a_misspelt_setting_is_said_with_the_one_that_it_resembles() -> None:
    [line] = unknown_settings({"FLEETWIRE_API_PROT": "8080", "FLEETWIRE_API_HOST": "127.0.0.1", "PATH": "/bin"})
    assert line == "FLEETWIRE_API_PROT has no effect: there is no such setting; FLEETWIRE_API_PORT is one"


def test_what_resembles_nothing_gets_no_suggestion() -> None:
    assert unknown_settings({"FLEETWIRE_QQ": ""}) == ["FLEETWIRE_QQ has no effect: there is no such setting"]


def test_every_process_and_command_is_asked_for_its_settings() -> None:
    of_each = {"FLEETWIRE_HUB_NAME", "FLEETWIRE_WORKER_QUEUES", "FLEETWIRE_FILES_PORT", "FLEETWIRE_WATCHER_RESCAN_S"}
    assert (
        of_each | {"FLEETWIRE_API_PORT", "FLEETWIRE_TOKEN", "FLEETWIRE_HOME", "FLEETWIRE_PARENT_PID"} <= known_names()
    )
    assert unknown_settings(dict.fromkeys(known_names() | {"FLEETWIRE_TEST_DATABASE_URL"}, "")) == []
