"""Every alert leads to a page with its name on it, every page is known to the index, and what pages name is there."""

import re
import shlex
from pathlib import Path

import pytest

from infra.cli import command_names
from infra.prometheus import rules
from infra.prometheus.queries import labels_of

ROOT = Path(__file__).parents[2]
RUNBOOKS = ROOT / "docs" / "runbooks"
PAGES = sorted(RUNBOOKS.glob("*.md"))
LINKED = [ROOT / "docs" / "operational-readiness.md", ROOT / "docs" / "scaling.md", *PAGES]


def alerts() -> dict[str, dict[str, str]]:
    return {
        rule["alert"]: rule["annotations"] | rule["labels"]
        for group in rules.made()["alerts.yml"]
        for rule in group["rules"]
    }


def anchors(page: Path) -> set[str]:
    """As the places where Markdown is read make them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def test_every_alert_leads_to_a_heading_of_its_own_on_a_page() -> None:
    for alert, about in alerts().items():
        file, _, anchor = about["runbook_url"].partition("#")
        assert f"## {alert}" in (ROOT / file).read_text("utf-8").splitlines(), (alert, file)
        assert anchor in anchors(ROOT / file)


def test_pages_name_no_alert_that_does_not_exist() -> None:
    named = {
        name for page in PAGES for name in re.findall(r"^## (Fleetwire\w+)$", page.read_text("utf-8"), re.MULTILINE)
    }
    assert named == set(alerts())


def test_the_index_has_every_page_and_every_alert_and_who_is_woken() -> None:
    index = (RUNBOOKS / "README.md").read_text("utf-8")
    assert {page.name for page in PAGES if page.name != "README.md"} <= set(re.findall(r"\]\((\S+\.md)", index))
    for alert, about in alerts().items():
        short = re.sub(r"Burns(Fast|Steadily|Slowly)$", "…", alert)
        (row,) = [line for line in index.splitlines() if f"`{short}`" in line and line.startswith("|")]
        if short == alert:
            assert ("| yes |" in row) == (about["severity"] == "page"), alert


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.name)
def test_every_link_leads_to_a_page_and_a_heading_on_it(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_readiness_scaling_runbooks_and_the_postmortem_lead_to_each_other() -> None:
    readiness, scaling = ROOT / "docs" / "operational-readiness.md", ROOT / "docs" / "scaling.md"
    index, postmortem = RUNBOOKS / "README.md", RUNBOOKS / "postmortem.md"
    ways = {
        readiness: {scaling, index, postmortem},
        scaling: {readiness},
        index: {readiness, scaling, postmortem},
        postmortem: {index},
    }
    for page, targets in ways.items():
        links = re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8"))
        assert targets <= {(page.parent / link).resolve() for link in links}, page


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.name)
def test_commands_settings_and_metrics_that_pages_name_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    for command in re.findall(r"`fleetwire ([^`]+)`", text):
        words = shlex.split(command.split("|")[0])
        assert words[0] in command_names(), command
    recorded = {rule["record"]: rule["expr"] for group in rules.made()["recorded.yml"] for rule in group["rules"]}
    for name in re.findall(r"\b(?:\w+:)?fleetwire_[a-z_]+(?::\w+)?", text):
        known = [labels_of(name + ending, recorded) for ending in ("", "_count")]
        assert any(one is not None for one in known), name
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "shared").rglob("*.py"))
    for setting in re.findall(r"FLEETWIRE_[A-Z_]+[A-Z]", text):
        kinds = ("hub", "api", "watcher", "worker", "files", "shared", "infra")
        if f'"{setting}"' not in sources:
            places = [path for kind in kinds for path in (ROOT / kind).rglob("*.py")]
            assert any(f'"{setting}"' in path.read_text("utf-8") for path in places), setting
