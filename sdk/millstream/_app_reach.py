"""How the current code reaches an app, wherever it runs."""

import json
import os
from typing import Final

from millstream._app_context import ENDPOINTS_VARIABLE, LOOPBACK, MODE_VARIABLE, NAME_VARIABLE
from millstream._app_endpoint import AppNotActiveError, urls_of
from millstream._context import ActionContext, current
from millstream._remote_app import App

#: Flyte's variable for URLs inside a cluster: `{app_fqdn}` stands for the app's name.
PATTERN_VARIABLE: Final = "INTERNAL_APP_ENDPOINT_PATTERN"


def endpoint_of(name: str, port: int) -> str:
    """Return the URL of an app, as the current code reaches it.

    Args:
        name: Of the app.
        port: Where it listens when local mode serves it.

    Raises:
        AppNotActiveError: It is not known to be up.
        RejectedError: No app of that name was served on the cluster.
    """
    context = current.get()
    if context is not None and context.mode != "local":
        return _in_task(context, name)
    if context is not None or os.environ.get(MODE_VARIABLE) == "local":
        return f"http://{LOOPBACK}:{port}"
    pattern = os.environ.get(PATTERN_VARIABLE)
    if pattern is not None:
        return pattern.format(app_fqdn=name)
    brought: dict[str, str] = json.loads(os.environ.get(ENDPOINTS_VARIABLE, "{}"))
    if name in brought:
        return brought[name]
    if NAME_VARIABLE in os.environ:
        raise AppNotActiveError(name, "it was not up when this server's attempt began")
    endpoint = App.get(name).endpoint
    if not endpoint:
        raise AppNotActiveError(name, "it has no server now")
    return endpoint


def _in_task(context: ActionContext, name: str) -> str:
    found = urls_of(context.apps).get(name)
    if found is None:
        raise AppNotActiveError(
            name,
            "it was not up when this attempt began; serve it before, and where another app needs "
            "it, list it in that one's `depends_on`",
        )
    return found
