"""What a publisher says of a version of an artifact."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from millstream._artifact_partitions import parts_of
from millstream_events.artifacts import PARENTS_MAX, ArtifactSpec, ParentRef
from millstream_events.artifacts import Card as CardRecord

if TYPE_CHECKING:
    from millstream._artifact_card import Card

#: Key among `attrs` that says what an artifact is; read it as `Artifact.kind`.
KIND_KEY: Final = "flyte.io/kind"
MAX_PARENTS: Final = PARENTS_MAX
Kind = Literal["model", "data", "generic"]


@dataclass(frozen=True)
class ArtifactKey:
    """Which artifact; an empty part of a parent's key is that of the version it belongs to."""

    org: str = ""
    project: str = ""
    domain: str = ""
    name: str = ""


@dataclass(frozen=True)
class ArtifactVersionId:
    """Which version of which artifact."""

    key: ArtifactKey = field(default_factory=ArtifactKey)
    version: str = ""


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """Name, version and description of an artifact.

    Raises:
        ValueError: More than `MAX_PARENTS` parents, an empty one, or partitions that no version
            can have.
        TypeError: A parent that is neither a version nor an `ArtifactVersionId`.
    """

    name: str
    #: None: made of the run, the action and the attempt.
    version: str | None = None
    description: str | None = None
    attrs: Mapping[str, str] | None = None
    card: "Card | None" = None
    #: What it is; kept among `attrs` under `KIND_KEY`, where one that is there already counts.
    kind: Kind | None = None
    #: Part of what a version is: a `date` is a day, a `datetime` an hour, a `TimePartition` says
    #: itself what it is, anything else is a string.
    partitions: Mapping[str, Any] | None = None
    #: What it was made from, the most important one first: a version of the same artifact, or
    #: the full id of one of another. They need not exist.
    parents: tuple[str | ArtifactVersionId, ...] | None = None
    #: Without a `version`: take the hash of the content, where the value knows it, so that the
    #: same content is the same version.
    version_from_content: bool = False

    def __post_init__(self) -> None:
        parents_of(self.parents)
        parts_of(self.partitions)

    @classmethod
    def create_model_metadata(
        cls,
        *,
        name: str,
        version: str | None = None,
        description: str | None = None,
        card: "Card | None" = None,
        framework: str | None = None,
        model_type: str | None = None,
        architecture: str | None = None,
        task: str | None = None,
        modality: tuple[str, ...] = ("text",),
        serial_format: str = "safetensors",
        attrs: Mapping[str, str] | None = None,
        partitions: Mapping[str, Any] | None = None,
    ) -> "Metadata":
        """Return what is said of a model: of kind `model`, its traits among `attrs`."""
        traits = {
            KIND_KEY: "model",
            "framework": framework or "",
            "model_type": model_type or "",
            "architecture": architecture or "",
            "task": task or "",
            "modality": ",".join(modality) if modality else "",
            "serial_format": serial_format or "",
        }
        return cls(
            name=name,
            version=version,
            description=description,
            attrs={**(attrs or {}), **traits},
            card=card,
            partitions=partitions,
        )


def resolve_attrs(md: Metadata) -> dict[str, str]:
    """Return the attributes of an artifact, its kind among them."""
    attrs = dict(md.attrs or {})
    if md.kind is not None:
        attrs.setdefault(KIND_KEY, md.kind)
    return attrs


def parents_of(
    parents: Sequence[str | ArtifactVersionId] | None,
) -> tuple[ParentRef, ...]:
    """Return what a version was made from, as it is recorded; errors as those of `Metadata`."""
    given = tuple(parents or ())
    if len(given) > MAX_PARENTS:
        raise ValueError(
            f"an artifact version may declare at most {MAX_PARENTS} parents, got {len(given)}"
        )
    return tuple(_parent(index, each) for index, each in enumerate(given))


def _parent(index: int, given: object) -> ParentRef:
    if isinstance(given, str):
        if not given:
            raise ValueError(f"parents[{index}] is an empty version string")
        return ParentRef(given)
    if not isinstance(given, ArtifactVersionId):
        raise TypeError(
            f"parents[{index}] must be a version string or an ArtifactVersionId, got "
            f"{type(given).__name__}"
        )
    key = given.key
    return ParentRef(given.version, key.name, key.project, key.domain)


def spec_of(md: Metadata, *, slot: str = "") -> ArtifactSpec:
    """Return the record of what a publisher says; the value is still to be added."""
    parts = parts_of(md.partitions)
    return ArtifactSpec(
        md.name,
        md.version or "",
        description=md.description or "",
        attrs=attrs_record(resolve_attrs(md)),
        card=card_record(md.card),
        partitions=parts.strings,
        time=parts.time,
        parents=parents_of(md.parents),
        slot=slot,
    )


def attrs_record(attrs: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return attributes as they are recorded.

    Raises:
        TypeError: They do not map strings to strings.
    """
    for key, value in cast("Mapping[object, object]", attrs).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"attrs map strings to strings, not {key!r} to {value!r}")
    return tuple(attrs.items())


def card_record(card: "Card | None") -> CardRecord | None:
    """Return a card as it is recorded."""
    return None if card is None else CardRecord(card.uri, card.format, card.card_type)
