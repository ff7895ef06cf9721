"""Artifacts: files, folders and tables with a name, a version and a history.

A task that is declared with `produces_artifacts=True` publishes what it returns as
`new(value, Metadata(...))`; a caller publishes what another task returns with `produces`.
`millstream.remote.Artifact` finds what was published, by name, version or partition.
"""

from millstream._artifact_card import Card, CardFormat, CardType
from millstream._artifact_declared import produces
from millstream._artifact_metadata import (
    KIND_KEY,
    MAX_PARENTS,
    ArtifactKey,
    ArtifactVersionId,
    Kind,
    Metadata,
)
from millstream._artifact_new import new
from millstream._artifact_partitions import Granularity, TimePartition
from millstream._artifact_wrapper import Artifact

__all__ = [
    "KIND_KEY",
    "MAX_PARENTS",
    "Artifact",
    "ArtifactKey",
    "ArtifactVersionId",
    "Card",
    "CardFormat",
    "CardType",
    "Granularity",
    "Kind",
    "Metadata",
    "TimePartition",
    "new",
    "produces",
]
