"""Marking a value as an artifact, and which values may be one."""

from typing import Final, TypeVar, cast

from millstream._artifact_metadata import Metadata
from millstream._artifact_wrapper import ArtifactWrapper, metadata_getter
from millstream.io import DataFrame, Dir, File

T = TypeVar("T")

_ASSETS: Final = (File, Dir, DataFrame)


def new(obj: T, metadata: Metadata) -> T:
    """Return `obj`, to be published as `metadata` says when a task returns it.

    Only what lies in a store can be an artifact: a `File`, `Dir` or `DataFrame`, or a value
    that has `get_artifact_metadata`. It must be an output of the task by itself.

    Raises:
        TypeError: Any other value.
    """
    ensure_artifactable(obj)
    return cast("T", ArtifactWrapper(obj, metadata))


def ensure_artifactable(obj: object) -> None:
    """Refuse a value that can be no artifact.

    Raises:
        TypeError: It is none of `File`, `Dir` and `DataFrame`, and does not say what it is.
    """
    if isinstance(obj, _ASSETS) or metadata_getter(obj) is not None:
        return
    raise TypeError(
        f"values of type {type(obj).__name__!r} cannot be artifacts; artifacts lie in a store: "
        f"return a flyte.io.File, flyte.io.Dir, or flyte.io.DataFrame (of a frame: "
        f"DataFrame.from_df())"
    )
