"""Name the images of others by digest: `python -m infra.docker.pin`, before a release.

A tag means something else tomorrow; a digest is the bytes themselves. What each image is called stands in images.toml;
what it was when its registry was asked is written to images.env, which docker compose and the builds read, and to
infra/k8s/images. Both are committed: a release is then the same wherever it is built and run. `--check` says what has
no digest yet. Nothing is made up: without an answer of a registry nothing is written.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Image", "NotFound", "declared", "main", "pinned", "unpinned"]

FOLDER: Final = Path(__file__).parent
MANIFESTS: Final = FOLDER.parent / "k8s" / "images" / "kustomization.yaml"
DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_DEADLINE_S: Final = 60.0
_HEAD: Final = (
    "# Written by `python -m infra.docker.pin` from images.toml; what has no digest has not been looked up.\n"
)


class NotFound(RuntimeError):
    """A registry gave no digest."""


@dataclass(frozen=True, slots=True)
class Image:
    """One of images.toml. `variable` is its name in images.env, without the ending."""

    variable: str
    name: str
    tag: str

    @property
    def reference(self) -> str:
        """As a registry is asked for it."""
        return f"{self.name}:{self.tag}"


def declared() -> list[Image]:
    """All images of others."""
    content = tomllib.loads((FOLDER / "images.toml").read_text("utf-8"))
    return [Image(variable, one["name"], one["tag"]) for variable, one in content.items()]


def pinned() -> dict[str, str]:
    """The digests that were written, by variable."""
    file = FOLDER / "images.env"
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    found = dict(line.split("=", 1) for line in lines if line and line[0] != "#")
    return {name.removesuffix("_DIGEST"): value for name, value in found.items() if DIGEST.fullmatch(value)}


def unpinned(images: Sequence[Image], digests: Mapping[str, str]) -> list[Image]:
    """Those without a digest."""
    return [image for image in images if image.variable not in digests]


def looked_up(image: Image) -> str:
    """The digest that its registry gives now, for all platforms. Raises NotFound."""
    command = ["docker", "buildx", "imagetools", "inspect", image.reference, "--format", "{{.Manifest.Digest}}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_DEADLINE_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotFound(f"{image.reference}: {error}") from error
    digest = done.stdout.strip()
    if done.returncode != 0 or not DIGEST.fullmatch(digest):
        raise NotFound(f"{image.reference}: {(done.stderr or done.stdout).strip() or 'no answer'}")
    return digest


def environment(images: Sequence[Image], digests: Mapping[str, str]) -> str:
    """images.env: the digest of each, and each whole reference, as a build takes it."""
    lines = []
    for image in images:
        digest = digests.get(image.variable)
        if digest is None:
            lines.append(f"# {image.variable}: {image.reference} has no digest yet")
        else:
            lines += [f"{image.variable}_DIGEST={digest}", f"{image.variable}_IMAGE={image.reference}@{digest}"]
    return _HEAD + "\n".join(lines) + "\n"


def manifests(text: str, images: Sequence[Image], digests: Mapping[str, str]) -> str:
    """infra/k8s/images with the digests of those that it names."""
    for image in images:
        digest = digests.get(image.variable)
        entry = re.compile(
            rf"(  - name: {re.escape(image.name)}\n)    newTag: [^\n]+\n(?:    digest: [^\n]+\n)?", re.MULTILINE
        )
        written = f"    newTag: {image.tag}\n" + (f"    digest: {digest}\n" if digest else "")
        text = entry.sub(lambda found, written=written: found[1] + written, text)  # type: ignore[misc]
    return text


def main(arguments: Sequence[str], *, look_up: Callable[[Image], str] = looked_up) -> int:
    """Look all up, or say what is missing."""
    images = declared()
    if "--check" in arguments:
        missing = unpinned(images, pinned())
        for image in missing:
            print(f"{image.reference} has no digest: python -m infra.docker.pin")
        return 1 if missing else 0
    digests: dict[str, str] = {}
    try:
        for image in images:
            digests[image.variable] = look_up(image)
            print(f"{image.reference} is {digests[image.variable]}")
    except NotFound as error:
        print(f"nothing is written: {error}", file=sys.stderr)
        return 1
    (FOLDER / "images.env").write_text(environment(images, digests), "utf-8")
    MANIFESTS.write_text(manifests(MANIFESTS.read_text("utf-8"), images, digests), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
