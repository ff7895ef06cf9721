"""The Dockerfile that gives the environment of an image as a container, and the files it copies.

It follows the same steps as an agent that builds the environment on a host, so that both install
the same; what only a container can give comes in between, in the order of the layers.
"""

import shlex
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from millstream._image import Image
from millstream._image_layers import (
    AptPackages,
    Commands,
    CopyConfig,
    Env,
    Layer,
    PipOption,
    PixiProject,
    PixiScript,
    PoetryProject,
    WorkDir,
)
from millstream._image_plan import Step, steps_of_layer
from millstream._image_refs import known_refs, uri_of
from millstream.errors import ImageBuildError

#: Where uv comes from, for whoever builds the Dockerfile by hand.
UV_OF_REGISTRY: Final = "COPY --from=ghcr.io/astral-sh/uv:latest /uv /usr/local/bin/uv"
#: Folder of the image in which files lie that a step installs from.
_STEPS: Final = "/opt/millstream"
_INSTALL: Final = ("uv", "pip", "install", "--system", "--break-system-packages")
#: Python packages of these layers come from uv.
_BY_UV: Final = (PipOption, PoetryProject)


class Recipe(NamedTuple):
    """A Dockerfile, and what must lie beside it."""

    dockerfile: str
    #: (name, content), relative to the Dockerfile's folder.
    files: tuple[tuple[str, bytes], ...] = ()


def dockerfile_of(image: Image) -> str:
    """Return the text of the Dockerfile alone.

    Raises:
        ImageBuildError: As `recipe_of`.
    """
    return recipe_of(image).dockerfile


def recipe_of(image: Image, *, uv: str = UV_OF_REGISTRY) -> Recipe:
    """Return the Dockerfile of an image and the files that it copies.

    Args:
        image: The image.
        uv: Line that brings uv into the container.

    Raises:
        ImageBuildError: A name that the configuration has not, a file that is not there, or
            something that no build of ours can give.
    """
    if image.dockerfile is not None:
        return Recipe(image.dockerfile.read_text(encoding="utf-8"))
    lines, files = [f"FROM {starting_image(image)}"], dict[str, bytes]()
    if any(isinstance(layer, _BY_UV) for layer in image.layers):
        lines.append(uv)
    for number, layer in enumerate(image.layers):
        try:
            lines += _lines_of(layer, f"layer-{number}", files)
        except (OSError, ValueError) as exc:
            raise ImageBuildError(f"{type(layer).__name__}: {exc}") from exc
    return Recipe("\n".join(lines) + "\n", tuple(files.items()))


def starting_image(image: Image) -> str:
    """Return the image that `image` starts from.

    Raises:
        ImageBuildError: It stands for a name that the configuration has not.
    """
    if image.base_image:
        return image.base_image
    found = uri_of(image.reference)
    if found is None:
        known = ", ".join(known_refs()) or "none"
        raise ImageBuildError(
            f"Image name {image.reference!r} not found in config. Available: {known}; "
            f"name it in `image.image_refs`, `init(images=...)` or `--image NAME=URI`"
        )
    return found


def _lines_of(layer: Layer, place: str, files: dict[str, bytes]) -> list[str]:
    """Return the lines of a layer; what they copy is put into `files`, below `place`."""
    match layer:
        case PipOption() | PoetryProject():
            lines: list[str] = []
            for number, step in enumerate(steps_of_layer(layer)):
                lines += _install(step, f"{place}-{number}", files)
            return lines
        case PixiProject() | PixiScript():
            raise ImageBuildError("pixi installs conda packages: write a Dockerfile for them")
        case AptPackages():
            names = _words(layer.packages)
            return [f"RUN apt-get update && apt-get install -y --no-install-recommends {names}"]
        case Commands():
            return [f"RUN {command}" for command in layer.commands]
        case WorkDir():
            return [f"WORKDIR {layer.workdir}"]
        case Env():
            return [f"ENV {name}={shlex.quote(value)}" for name, value in layer.env_vars]
        case CopyConfig():
            # Names are relative to the working directory, as on a host.
            _add(files, place, layer.files())
            return [f"COPY {place}/ ./"]
        case _:
            return []


def _install(step: Step, place: str, files: dict[str, bytes]) -> list[str]:
    if step.secrets:
        raise ImageBuildError(
            "secret_mounts of a layer are told to agents that build environments, and to no "
            "container's build: they would stay in its history"
        )
    where = f"{_STEPS}/{place}"
    copy = f"COPY {place}/ {where}/"
    if step.wheels:
        _add(files, place, step.wheels)
        return [copy, _run([*step.arguments]) + f" {where}/*.whl"]
    if not step.project and not any(each.startswith(("-", "#")) for each in step.requirements):
        return [_run([*step.arguments, *step.requirements])]
    if not step.project:
        text = "\n".join(step.requirements) + "\n"
        _add(files, place, [("requirements.txt", text.encode())])
        return [copy, _run(["-r", f"{where}/requirements.txt", *step.arguments])]
    _add(files, place, step.project)
    if not any(name == "uv.lock" for name, _ in step.project):
        return [copy, _run([*step.arguments, where])]
    listed = f"{where}/locked.txt"
    export = ["uv", "export", "-q", "--frozen", "--no-dev", "--no-emit-project"]
    lines = [copy, "RUN " + _words([*export, "--project", where, "-o", listed])]
    lines.append(_run(["--no-deps", "-r", listed, *step.arguments]))
    return [*lines, _run(["--no-deps", where])] if step.install_project else lines


def _add(files: dict[str, bytes], place: str, found: Iterable[tuple[str, bytes]]) -> None:
    for name, content in found:
        files[f"{place}/{name}"] = content


def _run(arguments: Sequence[str]) -> str:
    return "RUN " + _words([*_INSTALL, *arguments])


def _words(parts: Sequence[str]) -> str:
    return " ".join(shlex.quote(part) for part in parts)
