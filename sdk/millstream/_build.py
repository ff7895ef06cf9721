"""`build`: what an image comes to, before any task needs it, and as a container where asked."""

import sys
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from millstream._docker import build_container, docker_flaw
from millstream._dockerfile import dockerfile_of, starting_image
from millstream._environment_fields import Environment
from millstream._image import Image
from millstream._image_refs import BUILDERS, configured_builder
from millstream._image_use import plan_of_image
from millstream._syncify import Syncified
from millstream._unsupported import warn_once


@dataclass(frozen=True)
class ImageBuild:
    """What an image comes to.

    Attributes:
        uri: Its name, with the hash of its content.
        remote_run: Known from Flyte: no run builds images, so always None.
        build_run: The same.
        digest: Name of the environment that agents build, in hexadecimal; empty: the agent's own
            interpreter will do.
        dockerfile: The text of a Dockerfile that gives the same environment as a container.
        image_id: Of the container image that the Docker engine has built; empty: none was asked
            for, or there is no engine.
    """

    uri: str | None
    remote_run: object = None
    build_run: object = None
    digest: str = ""
    dockerfile: str = field(default="", repr=False)
    image_id: str = ""


class ImageCache(NamedTuple):
    """The images of several environments."""

    #: Environment -> name of its image.
    image_lookup: dict[str, str]


async def _build(
    image: Image,
    dry_run: bool = False,
    force: bool = False,
    wait: bool = True,
    *,
    builder: str | None = None,
) -> ImageBuild:
    """Check an image and return what it comes to.

    Agents build the environment when a task needs it. With the builder `local` (here, by
    `init(image_builder=...)` or `image.builder` of a configuration) a container image of the same
    is built as well, with the Docker engine of this machine, and pushed if it has a registry.

    Args:
        image: The image.
        dry_run: Build nothing now.
        force: Build the container image though the engine has it.
        wait: Known from Flyte: a build is over when this returns.
        builder: `local`, or `agent`: no container image.

    Raises:
        FileNotFoundError: A file of the image is not there.
        ImageBuildError: Hosts cannot build it, or the Docker engine could not.
        ValueError: No such builder.
    """
    del wait
    chosen = builder or configured_builder()
    if chosen not in BUILDERS:
        raise ValueError(f"builder must be one of {', '.join(BUILDERS)}, not {chosen!r}")
    image.validate()
    uri = starting_image(image) if image.reference and not image.layers else image.uri
    text = dockerfile_of(image)
    built = ""
    if chosen == "local" and not dry_run and (image.layers or image.dockerfile is not None):
        built = await _contained(image, uri, force=force)
    # A container may hold what no agent could build.
    plan = None if built and image.dockerfile is not None else plan_of_image(image)
    digest = plan.digest.hex() if plan is not None else ""
    return ImageBuild(uri, digest=digest, dockerfile=text, image_id=built)


async def _contained(image: Image, uri: str, *, force: bool) -> str:
    """Build the container image; without an engine warn, since tasks need none."""
    flaw = await docker_flaw()
    if flaw:
        warn_once("MS2029", f"no container image is built: {flaw}; agents build the environment")
        return ""
    return await build_container(image, uri, _tell, force=force)


def _tell(line: str) -> None:
    sys.stderr.write(f"docker: {line}\n")
    sys.stderr.flush()


async def _build_images(*envs: Environment, copy_style: str = "loaded_modules") -> ImageCache:
    """Do the same for the images of environments and of those that they depend on."""
    del copy_style
    found: dict[str, str] = {}
    waiting: list[Environment] = list(envs)
    while waiting:
        environment = waiting.pop()
        if environment.name in found:
            continue
        image = environment.image
        built = await _build(image if isinstance(image, Image) else Image.from_debian_base())
        found[environment.name] = built.uri or ""
        waiting += environment.depends_on
    return ImageCache(found)


build: Final = Syncified(_build)
build_images: Final = Syncified(_build_images)
