"""Conditions: a task asks somebody a question and waits for the answer.

A condition is an action of its own in phase PAUSED. It is opened when it is made, so that a
person may answer while the task still does something else; whoever waits for it holds no slot.
A later attempt of the same task finds the condition, and the answer, that the former one had.
"""

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Generic, Literal, ParamSpec, TypeAlias, TypeVar

from millstream import _call, _settling
from millstream._context import ActionContext, Question, current
from millstream._group import group_here
from millstream._prompts import prompts
from millstream._run import Both
from millstream._shown import shown
from millstream._values import inputs_hash
from millstream.errors import (
    ConditionAlreadyExistsError,
    ConditionFailedError,
    ConditionTimedoutError,
    SyncTaskCallInAsyncContextError,
)
from millstream_events.conditions import ConditionExtras, decode_scalar
from millstream_events.errors import RejectedError
from millstream_events.ids import child_id
from millstream_events.phases import SUCCESS_PHASES, Phase
from millstream_events.reports import JournalEntry

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T", bound=bool | int | float | str)

PromptType: TypeAlias = Literal["text", "markdown"]

#: Stands for a task's identity in the ids of conditions.
_IDENTITY: Final = b"millstream.condition"
_TYPES: Final = (bool, int, float, str)


@dataclass
class ConditionWebhook:
    """An HTTP POST that is made when the condition opens; its failure fails nothing."""

    url: str
    """Where to; http or https."""

    payload: dict[str, Any] | None = None
    """JSON; `{callback_uri}` in any text of it becomes the place where the answer goes to."""

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"the URL of a webhook must begin with http, not {self.url!r}")


@shown
class Condition(Generic[T]):
    """A question to somebody outside; `wait` returns the answer."""

    def __init__(
        self,
        name: str,
        prompt: str = "Approve?",
        prompt_type: PromptType = "text",
        data_type: type[T] = bool,  # type: ignore[assignment]  # what T is without it
        description: str = "",
        timeout: timedelta | float | None = None,
        webhook: ConditionWebhook | None = None,
    ) -> None:
        if data_type not in _TYPES:
            raise TypeError(f"Invalid data_type {data_type}. Must be one of {_TYPES}.")
        if prompt_type not in ("text", "markdown"):
            raise ValueError(f"prompt_type must be 'text' or 'markdown', not {prompt_type!r}")
        if not name:
            raise ValueError("a condition must have a name")
        self.name = name
        self.prompt = prompt
        self.prompt_type = prompt_type
        self.data_type: type[T] = data_type
        self.description = description
        self.timeout = timeout
        self.webhook = webhook
        self._timeout_seconds = _seconds(timeout)
        #: The attempt that it was opened in, and what was asked there.
        self._asked: tuple[ActionContext, Question] | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Condition) and self._terms() == other._terms()

    def __hash__(self) -> int:
        return hash(self.name)

    def _terms(self) -> tuple[object, ...]:
        """Return all that was said when it was made."""
        return (
            self.name, self.prompt, self.prompt_type, self.data_type, self.description,
            self.timeout, self.webhook,
        )  # fmt: skip

    def _wait_plain(self) -> T:
        """Return the answer, when it has come.

        Raises:
            ConditionTimedoutError: Nobody answered in time.
            ConditionFailedError: The condition could not be opened.
            ActionAbortedError: The condition was aborted.
            RuntimeError: Outside of a task.
            SyncTaskCallInAsyncContextError: In async code of a task; await `wait.aio` there.
        """
        context = _context_to_wait_in()
        if _call.in_event_loop():
            raise SyncTaskCallInAsyncContextError(
                "`condition.wait()` was called from async code, where it would block the event "
                "loop; write `await condition.wait.aio()`"
            )
        return _call.wait_for(context, self._answer(context))

    async def _wait_aio(self) -> T:
        context = _context_to_wait_in()
        return await _call.on_host(context, self._answer(context))

    wait = Both(_wait_plain, _wait_aio)

    def question_in(self, context: ActionContext) -> Question:
        """Return what is asked in this attempt; the first call there gives it its id.

        Raises:
            ConditionAlreadyExistsError: The attempt has an open condition of that name.
        """
        if self._asked is not None and self._asked[0] is context:
            return self._asked[1]
        if self.name in context.conditions:
            raise ConditionAlreadyExistsError(
                f"the action has an open condition {self.name!r} already: an answer to the name "
                f"could mean either; wait for the first one, or give the second another name"
            )
        context.conditions.add(self.name)
        scope = _call.scope_here(context)
        group = group_here(context)
        hash_ = inputs_hash(self.name.encode())
        k = _call.occurrence(scope, _IDENTITY, hash_, group)
        webhook = self.webhook
        payload = None if webhook is None else webhook.payload
        question = Question(
            child_id(scope.id, task_identity=_IDENTITY, inputs_hash=hash_, group=group, k=k),
            self.name,
            self.data_type.__name__,
            self.prompt,
            "" if webhook is None else webhook.url,
            ConditionExtras(
                self.prompt_type,
                self.description,
                round((self._timeout_seconds or 0) * 1000) or int(bool(self._timeout_seconds)),
                group,
                "" if payload is None else json.dumps(payload),
            ),
        )
        self._asked = (context, question)
        return question

    async def _answer(self, context: ActionContext) -> T:
        question = self.question_in(context)
        await _settling.settle(context)
        controller = context.controller
        if context.mode == "local" and controller.recorded(question.id) is None:
            prompts.ask(context.run, question)
        try:
            entry = await controller.wait_for_condition(question)
        except RejectedError as exc:
            raise ConditionFailedError(f"condition {self.name!r}: {exc}") from exc
        finally:
            prompts.forget(context.run, question)
        context.conditions.discard(self.name)
        return self._value(entry)

    def _value(self, entry: JournalEntry) -> T:
        if entry.phase in SUCCESS_PHASES:
            return self.data_type(decode_scalar(entry.output))
        if entry.phase == Phase.TIMED_OUT:
            raise ConditionTimedoutError(
                f"Condition {self.name!r} was not signaled within {self._timeout_seconds:g} "
                f"seconds."
                if self._timeout_seconds
                else f"Condition {self.name!r} was not signaled in time."
            )
        if entry.phase == Phase.ABORTED:
            raise _call.failure_of(entry, self.name)
        raise ConditionFailedError(f"condition {self.name!r} ended {entry.phase}")


async def _opened(context: ActionContext, question: Question) -> None:
    await _settling.settle(context)
    await context.controller.open_condition(question)


class _NewCondition:
    """`new_condition(...)` and `new_condition.aio(...)`."""

    def __call__(
        self,
        name: str,
        /,
        prompt: str = "Approve?",
        prompt_type: PromptType = "text",
        data_type: type[T] = bool,  # type: ignore[assignment]  # what T is without it
        description: str = "",
        timeout: timedelta | float | None = None,
        webhook: ConditionWebhook | None = None,
    ) -> Condition[T]:
        """Open a condition in the current task and return it; does not wait for anybody.

        Args:
            name: What people call it when they answer.
            prompt: The question.
            prompt_type: How the prompt is shown: `text` or `markdown`.
            data_type: What the answer is: bool, int, float or str.
            description: More about the question.
            timeout: Seconds or `timedelta`, counted from the opening; None: waits for ever.
            webhook: A POST to be made when the condition opens.

        Raises:
            TypeError: Another `data_type`.
            ValueError: A timeout that is not positive.
            ConditionAlreadyExistsError: The task has an open condition of that name.
        """
        condition = Condition(name, prompt, prompt_type, data_type, description, timeout, webhook)
        context = current.get()
        if context is None:
            return condition
        question = condition.question_in(context)
        if _call.on_host_loop(context):
            _settling.begin(context, context.controller.open_condition(question))
        else:
            _call.wait_for(context, _opened(context, question))
        return condition

    async def aio(
        self,
        name: str,
        /,
        prompt: str = "Approve?",
        prompt_type: PromptType = "text",
        data_type: type[T] = bool,  # type: ignore[assignment]  # what T is without it
        description: str = "",
        timeout: timedelta | float | None = None,  # noqa: ASYNC109 - Flyte's name
        webhook: ConditionWebhook | None = None,
    ) -> Condition[T]:
        """Do the same from async code."""
        condition = Condition(name, prompt, prompt_type, data_type, description, timeout, webhook)
        context = current.get()
        if context is not None:
            await _call.on_host(context, _opened(context, condition.question_in(context)))
        return condition


#: Open a condition.
new_condition: Final = _NewCondition()


def _context_to_wait_in() -> ActionContext:
    context = current.get()
    if context is None:
        raise RuntimeError("Conditions can only be awaited within a task context.")
    return context


def _seconds(timeout: timedelta | float | None) -> float | None:
    if timeout is None:
        return None
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else float(timeout)
    if not seconds > 0:
        raise ValueError("timeout must be positive")
    return seconds
