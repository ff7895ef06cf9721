"""The Dockerfile that gives the environment of an image as a container."""

import shlex
from collections.abc import Sequence

from millstream._image import Image
from millstream._image_layers import (
    AptPackages,
    Commands,
    CopyConfig,
    Env,
    Layer,
    PipPackages,
    PixiProject,
    PoetryProject,
    Requirements,
    UVProject,
    UVScript,
    WorkDir,
)
from millstream._image_refs import known_refs, uri_of
from millstream.errors import ImageBuildError


def dockerfile_of(image: Image) -> str:
    """Return the text of a Dockerfile; paths in it are relative to the folder of the caller."""
    if image.dockerfile is not None:
        return image.dockerfile.read_text(encoding="utf-8")
    lines = [f"FROM {base_of(image)}"]
    if image.layers:
        lines.append("COPY --from=ghcr.io/astral-sh/uv:latest /uv /usr/local/bin/uv")
    for layer in image.layers:
        lines += _lines_of(layer)
    return "\n".join(lines) + "\n"


def base_of(image: Image) -> str:
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


def _lines_of(layer: Layer) -> list[str]:
    match layer:
        case Requirements():
            options = ["-r", "requirements.txt", *layer.arguments()]
            return [f"COPY {_words([str(layer.file)])} requirements.txt", _install(options)]
        case UVScript():
            return [_install([*layer.arguments(), *layer.dependencies()])]
        case PipPackages():
            return [_install([*layer.arguments(), *(layer.packages or ())])]
        case UVProject():
            files = [str(path) for path in (layer.pyproject, layer.uvlock) if path is not None]
            skipped = (
                [] if layer.project_install_mode == "install_project" else ["--no-install-project"]
            )
            return [
                f"COPY {_words(files)} ./",
                "RUN " + _words(["uv", "sync", "--active", "--inexact", *skipped]),
            ]
        case PoetryProject():
            files = [str(layer.pyproject), str(layer.poetry_lock)]
            return [f"COPY {_words(files)} ./", "RUN uvx poetry install --no-root"]
        case PixiProject():
            return [f"COPY {_words([str(layer.manifest)])} ./", "RUN pixi install"]
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
            return [f"COPY {_words([str(layer.src)])} {shlex.quote(layer.dst)}"]
        case _:
            return []


def _install(options: Sequence[str]) -> str:
    return "RUN " + _words(["uv", "pip", "install", "--system", *options])


def _words(parts: Sequence[str]) -> str:
    return " ".join(shlex.quote(part) for part in parts)
