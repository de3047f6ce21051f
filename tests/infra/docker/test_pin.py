"""Digests of the images of others: asked for, never made up, and the same everywhere they are named."""

import re
from pathlib import Path

import pytest
import yaml

from infra.docker import pin
from tests.infra.test_compose_production import GIVEN

TOP = Path(__file__).parents[3]
IMAGES = pin.declared()
DIGESTS = {image.variable: f"sha256:{n:064x}" for n, image in enumerate(IMAGES, 1)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    manifests = tmp_path / "kustomization.yaml"
    manifests.write_text(pin.MANIFESTS.read_text())
    (tmp_path / "images.toml").write_text((pin.FOLDER / "images.toml").read_text())
    monkeypatch.setattr(pin, "FOLDER", tmp_path)
    monkeypatch.setattr(pin, "MANIFESTS", manifests)
    return tmp_path


def test_one_answer_is_written_everywhere_and_nothing_else_is_changed(folder: Path) -> None:
    before = yaml.safe_load(pin.MANIFESTS.read_text())["images"]
    assert pin.main([], look_up=lambda image: DIGESTS[image.variable]) == 0
    assert pin.pinned() == DIGESTS
    lines = dict(line.split("=", 1) for line in (folder / "images.env").read_text().splitlines() if line[0] != "#")
    assert lines["PYTHON_IMAGE"] == f"python:3.12.11-slim-bookworm@{DIGESTS['PYTHON']}"
    after = yaml.safe_load(pin.MANIFESTS.read_text())["images"]
    named = {image.name: DIGESTS[image.variable] for image in IMAGES}
    assert [one | {"digest": named[one["name"]]} if one["name"] in named else one for one in before] == after
    # A second time with other answers replaces the first.
    assert pin.main([], look_up=lambda image: "sha256:" + "f" * 64) == 0
    assert pin.MANIFESTS.read_text().count("\n    digest: ") == sum(one["name"] in named for one in before)


def test_without_an_answer_nothing_is_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(image: pin.Image) -> str:
        if image.variable == "HAPROXY":
            raise pin.NotFound("haproxy:2.6.22: no route")
        return DIGESTS[image.variable]

    before = pin.MANIFESTS.read_text()
    assert pin.main([], look_up=refused) == 1
    assert "no route" in capsys.readouterr().err
    assert not (folder / "images.env").exists()
    assert pin.MANIFESTS.read_text() == before


@pytest.mark.parametrize(
    ("script", "digest"),
    [
        (f"echo {DIGESTS['POSTGRES']}", DIGESTS["POSTGRES"]),
        ("echo nonsense", None),
        ("echo not found >&2; exit 1", None),
        (None, None),
    ],
)
def test_the_registry_is_asked_by_docker_and_only_a_digest_is_an_answer(
    script: str | None, digest: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if script is not None:
        (tmp_path / "docker").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n{script}\n')
        (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin" if script else str(tmp_path))
    image = next(one for one in IMAGES if one.variable == "POSTGRES")
    if digest is None:
        with pytest.raises(pin.NotFound, match=re.escape("postgres:18.1")):
            pin.looked_up(image)
    else:
        assert pin.looked_up(image) == digest
        assert (tmp_path / "asked").read_text().startswith("buildx imagetools inspect postgres:18.1 ")


def test_it_is_said_which_have_no_digest(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pin.main(["--check"]) == 1
    assert capsys.readouterr().out.count("has no digest") == len(IMAGES)
    assert pin.main([], look_up=lambda image: DIGESTS[image.variable]) == 0
    assert pin.main(["--check"]) == 0


def test_files_name_the_tags_that_are_declared_and_no_digest_was_made_up() -> None:
    tags = {image.name: image.tag for image in IMAGES}
    arguments = {
        found[1]: found[2]
        for file in (TOP / "infra/docker").glob("*ockerfile")
        for found in re.finditer(r"^ARG \w+_IMAGE=([a-z/]+):(\S+)$", file.read_text(), re.MULTILINE)
    }
    production = dict(re.findall(r"image: ([a-z/]+):([^@\s]+)@", (TOP / "docker-compose.production.yml").read_text()))
    demo = dict(re.findall(r"image: ([a-z/]+):([^@\s]+)$", (TOP / "docker-compose.yml").read_text(), re.MULTILINE))
    for named in (arguments, production, demo):
        assert {name: tag for name, tag in named.items() if name != "fleetwire"}.items() <= tags.items()
    assert (set(arguments) | set(production) | set(demo)) - {"fleetwire"} == set(tags)
    # Those that the production file insists on are those that are looked up.
    assert {name for name in GIVEN if name.endswith("_DIGEST")} <= {f"{image.variable}_DIGEST" for image in IMAGES}
    manifests = yaml.safe_load(pin.MANIFESTS.read_text())["images"]
    assert {one["name"]: one["newTag"] for one in manifests if one["name"] in tags}.items() <= tags.items()
    assert all("digest" not in one for one in manifests) or not pin.unpinned(IMAGES, pin.pinned())
