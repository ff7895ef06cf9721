"""FastAPI applications as apps. FastAPI and uvicorn are imported when they are needed."""

import asyncio
import copyreg
import importlib
import os
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from millstream._app_context import HOST_VARIABLE
from millstream._app_environment import AppEnvironment
from millstream._app_fields import Link

if TYPE_CHECKING:
    import fastapi
    import uvicorn


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name not in (name, name.partition(".")[0]):
            raise
        raise ModuleNotFoundError(
            f"{exc.name} is not installed. Please install '{exc.name}' to use "
            f"FastAPIAppEnvironment: pip install 'millstream[app]'",
            name=exc.name,
        ) from None


def _new_state() -> object:
    return _imported("starlette.datastructures").State()


def _pickled_state(_: object) -> tuple[Any, ...]:
    # Empty, as in an application that has just been made: what is in it belongs to a process.
    return _new_state, ()


@dataclass(kw_only=True)
class FastAPIAppEnvironment(AppEnvironment):
    """A FastAPI application, served by uvicorn.

    Attributes:
        app: The application.
        type: Kind of the app, for people.
        uvicorn_config: How uvicorn is to serve it; None: `app` on `port`, on loopback.

    Raises:
        ModuleNotFoundError: FastAPI is not installed.
        ValueError: No application.
        TypeError: Something else than an application.
    """

    app: "fastapi.FastAPI"
    type: str | None = "FastAPI"
    uvicorn_config: "uvicorn.Config | None" = None

    def __post_init__(self) -> None:
        fastapi: Any = _imported("fastapi")
        given = cast("object", self.app)
        if given is None:
            raise ValueError("app cannot be None for FastAPIAppEnvironment")
        if not isinstance(given, fastapi.FastAPI):
            raise TypeError(f"app must be of type fastapi.FastAPI, got {given.__class__}")
        # Starlette's own way ends in an endless recursion, and an app of a notebook is pickled.
        state: Any = _imported("starlette.datastructures").State
        copyreg.pickle(state, _pickled_state)
        super().__post_init__()
        docs = Link(path="/docs", title="FastAPI OpenAPI Docs", is_relative=True)
        if docs not in self.links:
            self.links = [docs, *self.links]
        self._server = self._serve_app

    async def _serve_app(self) -> None:
        uvicorn: Any = _imported("uvicorn")
        port = self.get_port().port
        config = self.uvicorn_config
        if config is None:
            # Whoever says under which name the machine is reached wants it reached from outside.
            host = "0.0.0.0" if os.environ.get(HOST_VARIABLE) else "127.0.0.1"  # noqa: S104
            config = uvicorn.Config(self.app, host=host, port=port)
        else:
            # It is looked at, and told to others, where the environment says that it is.
            config.port = port
        server = uvicorn.Server(config)
        serving = asyncio.ensure_future(server.serve())
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            # Its own way to end: requests are answered, and what follows the lifespan is called.
            server.should_exit = True
            await serving
            raise
