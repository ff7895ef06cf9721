"""What every handle of an app can do, wherever the app is served."""

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class AppHandle(Protocol):
    """An app that is served: by this process (local mode) or on a cluster (`remote.App`).

    `activate` and `deactivate` have an `.aio` form.
    """

    @property
    def name(self) -> str:
        """Name of the app."""
        ...

    @property
    def url(self) -> str:
        """Page about it; where there is none, its endpoint."""
        ...

    @property
    def endpoint(self) -> str:
        """Where it is reached."""
        ...

    def is_active(self) -> bool:
        """Say whether it answers."""
        ...

    def is_deactivated(self) -> bool:
        """Say whether it was ended, and has."""
        ...

    @property
    def activate(self) -> Any:
        """`activate(wait=False)`: start it, if it is off."""
        ...

    @property
    def deactivate(self) -> Any:
        """`deactivate(wait=False)`: end it, if it is on."""
        ...

    def ephemeral_ctx(self) -> AbstractAsyncContextManager[None]:
        """Have it active inside `async with`, and off afterwards."""
        ...

    def ephemeral_ctx_sync(self) -> AbstractContextManager[None]:
        """Have it active inside `with`, and off afterwards."""
        ...
