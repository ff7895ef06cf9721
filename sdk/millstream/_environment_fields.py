"""What all kinds of environments have: a name, and settings that their members share."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from millstream._image import Image
from millstream._image_use import check_image
from millstream._pod import PodTemplate
from millstream._resources import Resources
from millstream._secret import SecretRequest, secrets_from_request
from millstream._shown import shown
from millstream._unsupported import check_settings
from millstream_events.names import NAME_CHARS_MAX

_NAME: Final = re.compile(r"[a-z0-9]+([_-][a-z0-9]+)*")
#: A longer description is cut, as in Flyte.
DESCRIPTION_CHARS_MAX: Final = 255
_CUT: Final = "...(tr.)"

#: All environments of this process, in the order in which they were declared.
_declared: Final[list["Environment"]] = []


def list_loaded_environments() -> list["Environment"]:
    """Return all environments of this process, in the order in which they were declared."""
    return _declared


def hide(environment: "Environment") -> None:
    """Leave one of Millstream's own out of what `list_loaded_environments` returns."""
    _declared[:] = [each for each in _declared if each is not environment]


@shown
@dataclass(init=False, repr=False)
class Environment:
    """Settings that the members of an environment share; see `TaskEnvironment`.

    Two are equal when they have the same settings.

    Raises:
        ValueError: The name is not made of lower-case words.
        TypeError: A setting of the wrong kind.
    """

    name: str
    depends_on: list["Environment"]
    pod_template: PodTemplate | str | None
    description: str | None
    secrets: SecretRequest | None
    env_vars: dict[str, str] | None
    resources: Resources | None
    interruptible: bool
    image: Image | str | None
    include: tuple[str, ...]
    service_account: str | None

    def __init__(
        self,
        name: str,
        depends_on: Sequence["Environment"] = (),
        pod_template: PodTemplate | str | None = None,
        description: str | None = None,
        secrets: SecretRequest | None = None,
        env_vars: Mapping[str, str] | None = None,
        resources: Resources | None = None,
        interruptible: bool = False,
        image: Image | str | None = "auto",
        include: Sequence[str] = (),
        service_account: str | None = None,
    ) -> None:
        if len(name) > NAME_CHARS_MAX:
            raise ValueError(f"an environment name has at most {NAME_CHARS_MAX} characters")
        self.name = name
        self._validate_name()
        _check_kinds(
            {
                "resources": (resources, (Resources,), "Resources"),
                "env_vars": (env_vars, (Mapping,), "Dict[str, str]"),
                "service_account": (service_account, (str,), "str"),
                "pod_template": (pod_template, (str, PodTemplate), "str or PodTemplate"),
            }
        )
        secrets_from_request(secrets)
        check_image(image)
        # Taken once: both may be generators.
        needed, paths = list(depends_on), _paths(include)
        for dependency in needed:
            _check_environment(dependency, "depends_on to be of type List[Environment]")
        check_settings(
            {
                "include": paths,
                "pod_template": pod_template,
                "service_account": service_account,
            }
        )
        self.name = name
        self.depends_on: list[Environment] = needed
        self.pod_template = pod_template
        self.description = _cut(description)
        self.secrets = secrets
        self.env_vars = None if env_vars is None else dict(env_vars)
        self.resources = resources
        self.interruptible = interruptible
        self.image = image
        self.include = paths
        self.service_account = service_account
        _declared.append(self)

    def _validate_name(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise ValueError(
                f"Environment name '{self.name}' must be in snake_case or kebab-case format: the "
                f"environment name is made of lower-case letters and digits joined by single "
                f"'-' or '_'"
            )

    def add_dependency(self, *env: "Environment") -> None:
        """Deploy these environments together with this one.

        Raises:
            ValueError: An environment cannot depend on itself.
            TypeError: Not an environment.
        """
        for each in env:
            _check_environment(each, "Environment")
            if each is self or each.name == self.name:
                raise ValueError(f"Cannot add self as a dependency: {self.name} depends on itself")
        for each in env:
            if not any(each is known for known in self.depends_on):
                self.depends_on.append(each)

    def clone_with(self, name: str, **changes: Any) -> "Environment":
        """Return a new environment with this one's settings but for `changes`."""
        raise NotImplementedError

    def __hash__(self) -> int:
        return hash((type(self), self.name))


def _check_kinds(given: Mapping[str, tuple[object, tuple[type, ...], str]]) -> None:
    for name, (value, kinds, what) in given.items():
        if value is not None and not isinstance(value, kinds):
            raise TypeError(f"Expected {name} to be of type {what}, got {type(value)}")


def _check_environment(value: object, what: str) -> None:
    if not isinstance(value, Environment):
        raise TypeError(f"Expected {what}, got {type(value)}")


def _paths(include: object) -> tuple[str, ...]:
    if isinstance(include, str):
        raise TypeError(
            f"Expected include to be a sequence of str paths, got a bare str ({include!r})."
        )
    try:
        paths = tuple(cast("Sequence[object]", include))
    except TypeError as exc:
        raise TypeError(
            f"Expected include to be a sequence of str paths, got {type(include)}"
        ) from exc
    for path in paths:
        if not isinstance(path, str):
            raise TypeError(f"include entries must be str, got {type(path)}")
    return cast("tuple[str, ...]", paths)


def _cut(description: str | None) -> str | None:
    if description is None or len(description) <= DESCRIPTION_CHARS_MAX:
        return description
    return description[: DESCRIPTION_CHARS_MAX - len(_CUT)] + _CUT
