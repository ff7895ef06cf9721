"""Places elsewhere that show an action: a dashboard, a log search, an experiment."""

from collections.abc import Mapping, Sequence
from typing import Final, Protocol, cast, runtime_checkable

from millstream._action_id import ActionID
from millstream_events.values import LinkValue

#: Most links that one task may have.
LINKS_MAX: Final = 32


@runtime_checkable
class Link(Protocol):
    """What `links=` takes: something that has a name and gives an address.

    The address may hold `{{.runName}}`, `{{.actionName}}` and `{{.podName}}`, which are filled
    in when the link is shown: the action has no name yet when it is called.
    """

    name: str
    icon_uri: str | None = ""

    def get_link(
        self,
        run_name: str,
        project: str,
        domain: str,
        context: dict[str, str],
        parent_action_name: str,
        action_name: str,
        pod_name: str,
        **kwargs: object,
    ) -> str:
        """Return the address.

        Args:
            run_name: Name of the run; its id where it has none.
            project: Its project.
            domain: Its domain.
            context: Strings that travel with the run.
            parent_action_name: The action that made the call.
            action_name: A template that stands for the action's own name.
            pod_name: A template that stands for the worker that ran it.
            kwargs: Nothing now; room for more.
        """
        ...


def checked_links(given: object) -> tuple[Link, ...]:
    """Return what `links=` was given, as a tuple.

    Raises:
        TypeError: Something in it is no link.
        ValueError: More than `LINKS_MAX`.
    """
    if given is None:
        return ()
    single = not isinstance(given, list | tuple)
    links = (given,) if single else tuple(cast("Sequence[object]", given))
    if len(links) > LINKS_MAX:
        raise ValueError(f"a task has at most {LINKS_MAX} links, not {len(links)}")
    for link in links:
        if not callable(getattr(link, "get_link", None)) or not hasattr(link, "name"):
            raise TypeError(f"a link has a `name` and a `get_link` method; {link!r} has not")
    return cast("tuple[Link, ...]", links)


def links_of(
    links: Sequence[Link], caller: ActionID, context: Mapping[str, str]
) -> tuple[LinkValue, ...]:
    """Return the links of an action that `caller` is about to call."""
    return tuple(
        LinkValue(
            link.name,
            link.get_link(
                run_name=caller.run_name or "",
                project=caller.project or "",
                domain=caller.domain or "",
                context=dict(context),
                parent_action_name=caller.name,
                action_name="{{.actionName}}",
                pod_name="{{.podName}}",
            ),
            getattr(link, "icon_uri", None) or "",
        )
        for link in links
    )


def shown(link: LinkValue, *, run: str, action: str, worker: str) -> str:
    """Return the address of a link, with what is known by now filled in."""
    filled = link.uri.replace("{{.runName}}", run).replace("{{.actionName}}", action)
    return filled.replace("{{.podName}}", worker)
