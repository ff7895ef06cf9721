"""Errors of plans: what a static task, or a traced one, cannot be."""

from millstream._errors_roots import NamedUserError


class PlanError(NamedUserError):
    """No plan can be made, or it cannot be walked; the text names the line where there is one."""


class StaticControlFlowError(PlanError):
    """The code that is being traced asks for a value that is there only when the plan is walked.

    Such code belongs into an ordinary task.
    """


class PlanTypeError(PlanError, TypeError):
    """What a node takes can never fit its parameter."""


class PlanInputError(PlanError):
    """An input of the plan is missing, unknown, or fixed already."""


class PlanCycleError(PlanError):
    """Nodes wait for one another."""


class PlanTooLargeError(PlanError):
    """The plan has too many nodes, or takes too many bytes."""
