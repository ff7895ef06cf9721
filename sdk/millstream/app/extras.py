"""Apps of certain kinds; `pip install millstream[app]` brings what they need."""

from typing import Any

from millstream._absent import refusal
from millstream._app_fastapi import FastAPIAppEnvironment

__all__ = ["FastAPIAppEnvironment"]


def __getattr__(name: str) -> Any:
    raise refusal("app.extras", name, __all__)
