"""`build`: what an image comes to, before any task needs it."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from millstream._dockerfile import base_of, dockerfile_of
from millstream._environment_fields import Environment
from millstream._image import Image
from millstream._image_use import plan_of_image
from millstream._syncify import Syncified


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
    """

    uri: str | None
    remote_run: object = None
    build_run: object = None
    digest: str = ""
    dockerfile: str = field(default="", repr=False)


class ImageCache(NamedTuple):
    """The images of several environments."""

    #: Environment -> name of its image.
    image_lookup: dict[str, str]


async def _build(
    image: Image, dry_run: bool = False, force: bool = False, wait: bool = True
) -> ImageBuild:
    """Check an image and return what it comes to; the agents build it when a task needs it.

    Args:
        image: The image.
        dry_run: Known from Flyte: nothing is built before a task needs it.
        force: The same.
        wait: The same.

    Raises:
        FileNotFoundError: A file of the image is not there.
        ImageBuildError: Hosts cannot build it.
    """
    del dry_run, force, wait
    image.validate()
    plan = plan_of_image(image)
    digest = plan.digest.hex() if plan is not None else ""
    uri = base_of(image) if image.reference and not image.layers else image.uri
    return ImageBuild(uri, digest=digest, dockerfile=dockerfile_of(image))


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
