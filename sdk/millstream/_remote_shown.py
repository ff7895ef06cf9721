"""Objects of the remote API as plain data."""

import json
from typing import Any


class Shown:
    """An object that can be turned into plain data."""

    def to_dict(self) -> dict[str, Any]:
        """Return the object as plain data."""
        return {key: value for key, value in vars(self).items() if not key.startswith("_")}

    def to_json(self) -> str:
        """Return the object as JSON text."""
        return as_json(self.to_dict())


def as_json(shown: object) -> str:
    """Return plain data as JSON text; what JSON has no form for becomes its text."""
    return json.dumps(shown, indent=2, default=str)
