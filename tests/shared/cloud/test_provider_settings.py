import re
from pathlib import Path

import pytest

from shared.cloud.provider_settings import DriveRoot, GraphDrive, ProviderSettings
from shared.settings import SettingsError, load

S3 = {"FLEETWIRE_S3_BUCKET": "fleet", "FLEETWIRE_S3_KEY_ID": "AK", "FLEETWIRE_S3_SECRET": "hush"}
GRAPH = {
    "FLEETWIRE_GRAPH_TENANT": "contoso.onmicrosoft.com",
    "FLEETWIRE_GRAPH_CLIENT_ID": "6a1c",
    "FLEETWIRE_GRAPH_CLIENT_SECRET": "hush",
    "FLEETWIRE_GRAPH_DRIVES": "b!abc_-1/Fleet/inbox, de=b!2",
}
DRIVE = {
    "FLEETWIRE_DRIVE_KEY_FILE": "/etc/key.json",
    "FLEETWIRE_DRIVE_ROOTS": "1AbC, trucks=2x@0ADrive",
}


def test_without_settings_there_is_the_local_store_and_everything_goes_there() -> None:
    settings = load(ProviderSettings, {})
    assert settings.cloud_stores == ()
    assert settings.cloud_placement == (("local", 1.0),)
    assert settings.provider_problems() == []


def test_every_provider_that_is_set_up_has_its_stores_by_name() -> None:
    environ = S3 | GRAPH | DRIVE | {"FLEETWIRE_CLOUD_PLACEMENT": "sharepoint=70,drive:trucks=20,local=10"}
    settings = load(ProviderSettings, environ)
    assert settings.cloud_stores == ("s3", "drive", "drive:trucks", "sharepoint", "sharepoint:de")
    assert settings.cloud_drive_roots == (DriveRoot("drive", "1AbC"), DriveRoot("drive:trucks", "2x", "0ADrive"))
    assert settings.cloud_graph_drives == (
        GraphDrive("sharepoint", "b!abc_-1", "Fleet/inbox"),
        GraphDrive("sharepoint:de", "b!2"),
    )
    assert settings.cloud_drive_key_file == Path("/etc/key.json")
    assert dict(settings.cloud_placement) == {"sharepoint": 70, "drive:trucks": 20, "local": 10}
    assert settings.provider_problems() == []
    assert "hush" not in repr(settings)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("FLEETWIRE_DRIVE_ROOTS", "a=1,a=2", "two are called drive:a"),
        ("FLEETWIRE_DRIVE_ROOTS", "1,2", "two are called drive"),
        ("FLEETWIRE_DRIVE_ROOTS", "A=1", "no label"),
        ("FLEETWIRE_DRIVE_ROOTS", "a=1,b=2,c=1@9", "drive:a and drive:c are the same folder"),
        ("FLEETWIRE_GRAPH_DRIVES", "a=b!1/Fleet,b=b!1/fleet/", "sharepoint:a and sharepoint:b are the same folder"),
        ("FLEETWIRE_DRIVE_ROOTS", "a=1@", "folderId@driveId"),
        ("FLEETWIRE_DRIVE_ROOTS", "a='1'", "folderId@driveId"),
        ("FLEETWIRE_DRIVE_ROOTS", ",", "not 1 to 32"),
        ("FLEETWIRE_GRAPH_DRIVES", "a=b!1/../x", "path"),
        ("FLEETWIRE_GRAPH_DRIVES", "a=/x", "driveId/folder"),
        ("FLEETWIRE_GRAPH_TENANT", "a/b", "directory id"),
        ("FLEETWIRE_GRAPH_URL", "http://graph.example.com", "https://host"),
        ("FLEETWIRE_GRAPH_URL", "https://u:p@graph.example.com", "without user"),
        ("FLEETWIRE_GRAPH_LOGIN_URL", "https://[", "not an address"),
        ("FLEETWIRE_DRIVE_URL", "https://a.example.com/?x=1", "without user or query"),
        ("FLEETWIRE_HOOKS_URL", "http://fleet.example.com", "https://host"),
        ("FLEETWIRE_S3_ENDPOINT", "ftp://a.example.com", "http(s)://host"),
        ("FLEETWIRE_S3_PREFIX", "a//b", "path"),
        ("FLEETWIRE_S3_BUCKET", "a/b", "characters"),
        ("FLEETWIRE_CLOUD_PLACEMENT", "ftp=1", "no store"),
        ("FLEETWIRE_CLOUD_PLACEMENT", "local=1,local=2", "twice"),
        ("FLEETWIRE_CLOUD_PLACEMENT", "local=0", "above 0"),
        ("FLEETWIRE_CLOUD_PLACEMENT", "local=nan", "not from 0"),
        ("FLEETWIRE_CLOUD_PLACEMENT", "local=-1", "not from 0"),
    ],
)
def test_what_is_wrong_is_named_with_its_variable(variable: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError, match=f"^{variable}=.*{re.escape(said)}"):
        load(ProviderSettings, {variable: value})


def test_emulators_on_this_machine_need_no_https() -> None:
    settings = load(
        ProviderSettings, {"FLEETWIRE_GRAPH_URL": "http://127.0.0.1:99/", "FLEETWIRE_S3_ENDPOINT": "http://s"}
    )
    assert (settings.cloud_graph_url, settings.cloud_s3_endpoint) == ("http://127.0.0.1:99", "http://s")


@pytest.mark.parametrize("whole", [S3, DRIVE, GRAPH])
def test_half_a_provider_is_a_mistake_that_says_what_is_missing(whole: dict[str, str]) -> None:
    for variable in whole:
        environ = {name: value for name, value in whole.items() if name != variable}
        assert any(variable in problem for problem in load(ProviderSettings, environ).provider_problems())


def test_one_way_to_log_in_to_graph_is_enough_and_two_are_too_many() -> None:
    two = load(ProviderSettings, GRAPH | {"FLEETWIRE_GRAPH_CERTIFICATE_FILE": "/etc/app.pem"})
    assert ["CERTIFICATE_FILE" in problem for problem in two.provider_problems()] == [True]


def test_responses_go_only_to_what_is_set_up() -> None:
    settings = load(ProviderSettings, {"FLEETWIRE_CLOUD_PLACEMENT": "sharepoint=70,local=10"})
    (problem,) = settings.provider_problems()
    assert "sharepoint not set up" in problem
    assert settings.provider_problems(has_local=False) == []
