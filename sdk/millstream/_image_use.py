"""From `image=` of an environment to the plan that agents build, and what of it is left out."""

import sys
from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol
from weakref import WeakValueDictionary

from millstream._image import USUAL_PLATFORMS, Image
from millstream._image_layers import AptPackages, Commands, WorkDir
from millstream._image_plan import encode_plan, is_plain, plan_of
from millstream._unsupported import warn_once
from millstream.errors import ImageBuildError
from millstream_events.ids import Digest

OWN_PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"


class Plan(NamedTuple):
    """An environment to be built: its name, and the blob that says how."""

    digest: Digest
    content: bytes


class HasImage(Protocol):
    """What has an image: a `TaskEnvironment`."""

    @property
    def name(self) -> str: ...

    @property
    def image(self) -> object: ...


#: Plans by image: reading a requirements file once is enough.
_plans: Final[dict[int, tuple[Image, Plan | None]]] = {}
#: Environments of this process by name, for their images to travel with the code. Of several
#: of one name, as after a cell of a notebook ran again, the newest.
_known: Final[WeakValueDictionary[str, HasImage]] = WeakValueDictionary()
#: Environment -> digest in hexadecimal, as whoever packed the code found it. Empty: plain.
_adopted: Final[dict[str, str]] = {}


def check_image(image: object) -> None:
    """Check what `image=` says, and warn once of each part that a host cannot give.

    Raises:
        TypeError: Neither an `Image`, a name of one, "auto" nor None.
    """
    if not image or image == "auto":
        return
    if isinstance(image, str):
        image = Image.from_base(image)
    if not isinstance(image, Image):
        raise TypeError(f"Expected image to be of type str or Image, got {type(image)}")
    for code, what, instead in _left_out(image):
        warn_once(code, f"{what} of image= has no effect on a host: {instead}")


def _left_out(image: Image) -> list[tuple[str, str, str]]:
    """Return what of `image` a host cannot give: code, what, what happens instead."""
    found: list[tuple[str, str, str]] = []
    if not image.extendable or image.dockerfile is not None:
        instead = "tasks run in the Python environment of their agent"
        found.append(("MS2001", "the base image or Dockerfile", instead))
    if image.registry:
        found.append(("MS2022", "the registry", "agents build environments themselves"))
    if image.platform not in USUAL_PLATFORMS:
        found.append(("MS2026", "the platform", "an environment is of its agent's machine"))
    for layer in image.layers:
        match layer:
            case AptPackages():
                instead = "install them on the agent's machine"
                found.append(("MS2023", "with_apt_packages", instead))
            case Commands():
                found.append(("MS2024", "with_commands", "no shell command is run"))
            case WorkDir():
                instead = "tasks run where the image's files lie, else where the agent runs"
                found.append(("MS2025", "with_workdir", instead))
            case _:
                pass
    return found


def know(environment: HasImage) -> None:
    """Remember an environment of this process."""
    _known[environment.name] = environment


def adopt(images: Mapping[str, str]) -> None:
    """Take over what whoever packed the code found: a worker need not have the images' files."""
    _adopted.clear()
    _adopted.update(images)


def plan_for(environment: HasImage) -> Plan | None:
    """Return the plan of an environment; None: the agent's own interpreter will do.

    Raises:
        ImageBuildError: A file of the image is not there, or hosts cannot build it.
    """
    known = _adopted.get(environment.name)
    if known is not None:
        # Empty content: it is in the store already.
        return Plan(Digest(bytes.fromhex(known)), b"") if known else None
    image = environment.image
    if not isinstance(image, Image):
        return None
    found = _plans.get(id(image))
    if found is None or found[0] is not image:
        found = _plans[id(image)] = (image, plan_of_image(image))
    return found[1]


def plan_of_image(image: Image) -> Plan | None:
    """Return the plan of an image; None: the agent's own interpreter will do.

    Raises:
        ImageBuildError: A file of the image is not there, or hosts cannot build it.
    """
    if image.dockerfile is not None:
        return None
    # Without a version of its own a base image has the agent's Python.
    own = (sys.version_info.major, sys.version_info.minor)
    version = image.python_version if image.extendable else own
    plan = plan_of(version, image.layers)
    return None if is_plain(plan, OWN_PYTHON) else Plan(*encode_plan(plan))


def known_plans() -> dict[str, Plan | None]:
    """Return the plans of all environments of this process that have one, by name.

    One whose files are missing is left out: a call of its tasks will say so.
    """
    found: dict[str, Plan | None] = {}
    for environment in list(_known.values()):
        if isinstance(environment.image, Image):
            try:
                found[environment.name] = plan_for(environment)
            except ImageBuildError:
                continue
    return found
