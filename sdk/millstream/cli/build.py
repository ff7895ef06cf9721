"""`millstream build FILE ENV`: what images come to, before a task needs them."""

from pathlib import Path
from typing import Annotated, Final, Literal

from cyclopts import Parameter

from millstream._build import build
from millstream._image import Image
from millstream._views import View
from millstream.cli.deploy import chosen_environments
from millstream.cli.loading import load_module
from millstream.cli.outcome import DONE
from millstream.cli.output import DEFAULTS, OutputOptions, emit
from millstream.cli.reach import set_up

_Flag = Annotated[bool, Parameter(negative="")]
_COLUMNS: Final = ("environment", "image", "digest", "image_id")


def build_file(
    file: Path,
    env: str = "",
    /,
    *,
    all_: Annotated[bool, Parameter(name="--all", negative="")] = False,
    builder: Literal["agent", "local", ""] = "",
    force: _Flag = False,
    dry_run: _Flag = False,
    image: tuple[str, ...] = (),
    common: OutputOptions = DEFAULTS,
) -> int:
    """Check the image of an environment, and build it as a container if that is asked for.

    Args:
        file: Python file that declares the environment.
        env: Its variable in the file, or its name.
        all_: All environments of the file.
        builder: local: with the Docker engine of this machine; agent: when a task needs it.
        force: Build a container image though the engine has it.
        dry_run: Build nothing now.
        image: NAME=URI of an image for Image.from_ref_name; a bare URI is the default one.
        common: Options of every command.
    """
    module = load_module(file)
    set_up(image)
    rows: list[View] = []
    for each in chosen_environments(module, env, every=all_):
        found = each.image if isinstance(each.image, Image) else Image.from_debian_base()
        made = build(found, dry_run=dry_run, force=force, builder=builder or None)
        rows.append(
            {
                "environment": each.name,
                "image": made.uri,
                "digest": made.digest,
                "image_id": made.image_id,
                "dockerfile": made.dockerfile,
            }
        )
    emit(rows, common.output, columns=_COLUMNS, name="image")
    return DONE
