"""Apps: servers that run until they are deactivated, here or on a pool."""

from typing import Any

from millstream._absent import refusal
from millstream._app_context import AppContext, ctx
from millstream._app_endpoint import AppFailedError, AppNotActiveError
from millstream._app_environment import AppEnvironment
from millstream._app_fields import Domain, Link, Port, Scaling, Subdomain, Timeouts
from millstream._app_parameter import (
    AppEndpoint,
    ArtifactValue,
    Parameter,
    RunOutput,
    get_parameter,
)
from millstream._deploy import DeployedAppEnvironment

__all__ = [
    "AppContext",
    "AppEndpoint",
    "AppEnvironment",
    "AppFailedError",
    "AppNotActiveError",
    "ArtifactValue",
    "DeployedAppEnvironment",
    "Domain",
    "Link",
    "Parameter",
    "Port",
    "RunOutput",
    "Scaling",
    "Subdomain",
    "Timeouts",
    "ctx",
    "get_parameter",
]


def __getattr__(name: str) -> Any:
    raise refusal("app", name, __all__)
