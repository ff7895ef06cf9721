"""`millstream get artifact` and `millstream create artifact`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import Parameter

from millstream._artifact_card import Card, CardFormat, CardType
from millstream._artifact_metadata import Kind
from millstream._artifact_partitions import is_time_bound
from millstream._remote_records import time_of
from millstream._views import View, parse_time
from millstream.cli.outcome import DONE, NotFoundError, UsageError, nearest
from millstream.cli.output import DEFAULTS, OutputOptions, emit, emit_one
from millstream.cli.reach import DomainName, ProjectName, set_up
from millstream.io import File
from millstream.remote import Artifact, ArtifactNotFoundError
from millstream_events.errors import RejectedError
from millstream_events.partitions import is_plain_date, time_of_text

_NAME_COLUMNS: Final = ("name", "versions", "kind", "partitions", "latest_version", "created_at")
_COLUMNS: Final = ("name", "version", "kind", "type", "partitions", "source", "created_at")

Flag = Annotated[bool, Parameter(negative="")]


@dataclass(frozen=True)
class ArtifactChoice:
    """Which versions to list; everything that is given must hold."""

    search: str = ""
    """Part of the name, when names are listed."""
    created_after: str = ""
    """Only later than a time such as 2026-01-31T12:00:00Z."""
    source_run: str = ""
    """Only made by this run."""
    source_action: str = ""
    """Only made by this action."""
    source_external_ref: str = ""
    """Only from this place elsewhere."""
    kind: Kind | None = None
    """Only of this kind."""
    attr: tuple[str, ...] = ()
    """KEY=VALUE that it has among its attributes; repeatable."""
    partition: tuple[str, ...] = ()
    """KEY=VALUE of a partition, KEY=A..B for times between, KEY=A,B for any; repeatable."""
    latest_per_partition: Flag = False
    """Of each partition the newest only; needs a name."""

    @property
    def of_versions(self) -> bool:
        """Whether anything is asked for that names alone have not."""
        sources = (self.source_run, self.source_action, self.source_external_ref)
        return any((*sources, self.created_after, self.kind, self.attr))


#: No choice given.
ANY: Final = ArtifactChoice()


def get_artifact(
    name: str = "",
    version: str = "",
    /,
    *,
    limit: int = 100,
    choice: Annotated[ArtifactChoice, Parameter(name="*")] = ANY,
    version_option: Annotated[str, Parameter(name="--version")] = "",
    project: ProjectName = "",
    domain: DomainName = "",
    common: OutputOptions = DEFAULTS,
) -> int:
    """Show artifacts: their names, the versions of one, or one version and who uses it.

    Args:
        name: Name of one artifact.
        version: One version of it; `latest`: the newest.
        limit: Rows at most.
        choice: Which versions.
        version_option: The same as VERSION.
        project: Instead of the configured one.
        domain: Instead of the configured one.
        common: Options of every command.
    """
    set_up(project=project or None, domain=domain or None)
    version = version or version_option
    if not name and (choice.partition or choice.latest_per_partition):
        raise UsageError("--partition and --latest-per-partition need the name of an artifact")
    partitions = _selected(choice.partition)
    one = all(not isinstance(each, list | tuple) for each in partitions.values())
    if name and (version or (partitions and one and not choice.latest_per_partition)):
        emit_one(_version_view(name, version or "latest", partitions), common.output)
        return DONE
    if not name and not choice.of_versions:
        groups = Artifact.list_names(search=choice.search or None, limit=limit)
        emit((group.to_dict() for group in groups), common.output, columns=_NAME_COLUMNS)
        return DONE
    found = _listed(name, choice, partitions, limit)
    if name and not found and not choice.of_versions and not partitions:
        raise _not_found(name)
    emit(found, common.output, columns=_COLUMNS)
    return DONE


def _listed(
    name: str, choice: ArtifactChoice, partitions: dict[str, Any], limit: int
) -> list[View]:
    after = time_of(parse_time(choice.created_after)) if choice.created_after else None
    found = Artifact.listall(
        name=name or None,
        created_after=after,
        limit=limit,
        source_run=choice.source_run or None,
        source_action=choice.source_action or None,
        source_external_ref=choice.source_external_ref or None,
        kind=choice.kind,
        attrs=_pairs("--attr", choice.attr),
        latest_per_partition=choice.latest_per_partition,
        partitions=partitions,
    )
    return [each.to_dict() for each in found]


def _version_view(name: str, version: str, partitions: dict[str, Any]) -> View:
    try:
        found = Artifact.get(name, version, partitions=partitions)
    except ArtifactNotFoundError as exc:
        raise _not_found(name, exc) from exc
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    return {**found.to_dict(), "consumers": list(found.consumers())}


def _not_found(name: str, error: ArtifactNotFoundError | None = None) -> NotFoundError:
    known = [group.name for group in Artifact.list_names()]
    why = f"no artifact is called {name!r}." if error is None else f"{error.reason}."
    near = "" if name in known else nearest(name, known)
    return NotFoundError(f"{why}{near}", "millstream get artifact")


@dataclass(frozen=True)
class ArtifactFields:
    """What is said of a version that is published."""

    version: str = ""
    """The version; else a new one."""
    description: str = ""
    """For people."""
    attr: tuple[str, ...] = ()
    """KEY=VALUE to find it by; repeatable."""
    kind: Kind | None = None
    """What it is."""
    external_ref: str = ""
    """Where it comes from, elsewhere."""
    partition: tuple[str, ...] = ()
    """KEY=VALUE; a date is a day, a time an hour, anything else text; repeatable."""
    parent: tuple[str, ...] = ()
    """Version of the same artifact that it was made from; repeatable."""
    card: Path | None = None
    """A page that shows it."""
    card_format: CardFormat | None = None
    """Format of the page; else by the file's name."""
    card_type: CardType = "generic"
    """What the page shows."""


#: Nothing is said.
NO_FIELDS: Final = ArtifactFields()


def create_artifact(
    name: str,
    /,
    *,
    from_file: Path,
    said: Annotated[ArtifactFields, Parameter(name="*")] = NO_FIELDS,
    project: ProjectName = "",
    domain: DomainName = "",
    common: OutputOptions = DEFAULTS,
) -> int:
    """Publish a local file as a version of an artifact.

    Args:
        name: Name of the artifact.
        from_file: The file; it is put where tasks find it.
        said: What is said of the version.
        project: Instead of the configured one.
        domain: Instead of the configured one.
        common: Options of every command.
    """
    set_up(project=project or None, domain=domain or None)
    for path in (from_file, said.card):
        if path is not None and not path.is_file():
            raise UsageError(f"there is no file {path}")
    parts = {key: _value(text) for key, text in _pairs("--partition", said.partition).items()}
    try:
        made = Artifact.create(
            File.from_local_sync(from_file),
            name=name,
            version=said.version or None,
            description=said.description or None,
            attrs=_pairs("--attr", said.attr) or None,
            kind=said.kind,
            card=_stored(said.card, said) if said.card is not None else None,
            external_ref=said.external_ref or None,
            partitions=parts,
            parents=said.parent,
        )
    except RejectedError:
        raise
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    emit_one(made.to_dict(), common.output)
    return DONE


def _stored(page: Path, said: ArtifactFields) -> Card:
    suffix: Any = page.suffix.removeprefix(".").lower()
    return Card.create_from(
        local_path=page, format=said.card_format or suffix or "html", card_type=said.card_type
    )


def _pairs(option: str, given: tuple[str, ...]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in given:
        key, mark, value = text.partition("=")
        if not mark or not key.strip():
            raise UsageError(f"{option} takes KEY=VALUE, not {text!r}")
        if key.strip() in pairs:
            raise UsageError(f"{option} {key.strip()} is given more than once")
        pairs[key.strip()] = value.strip()
    return pairs


def _value(text: str) -> Any:
    if not is_time_bound(text):
        return text
    moment = time_of_text(text)
    return moment.date() if is_plain_date(text) else moment


def _selected(given: tuple[str, ...]) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for key, text in _pairs("--partition", given).items():
        low, several, high = text.partition("..")
        if several:
            chosen[key] = (low.strip(), high.strip())
        elif "," in text:
            chosen[key] = [part.strip() for part in text.split(",") if part.strip()]
        else:
            chosen[key] = text
    return chosen
