"""What is on the cluster: runs, their actions and projects, read from the log.

Methods have a plain form and an `.aio` one.
"""

from millstream._outputs import ActionOutputs
from millstream._remote_action import Action
from millstream._remote_app import App
from millstream._remote_condition import Condition
from millstream._remote_details import ActionDetails
from millstream._remote_project import Project
from millstream._remote_queue import Queue
from millstream._remote_records import ActionInputs, TimeFilter
from millstream._remote_secret import Secret
from millstream._remote_task import LazyEntity, TaskDetails
from millstream._remote_tasks import Task
from millstream._remote_trigger import Trigger, TriggerDetails
from millstream._run import Run
from millstream._run_reads import RunDetails

__all__ = [
    "Action",
    "ActionDetails",
    "ActionInputs",
    "ActionOutputs",
    "App",
    "Condition",
    "LazyEntity",
    "Project",
    "Queue",
    "Run",
    "RunDetails",
    "Secret",
    "Task",
    "TaskDetails",
    "TimeFilter",
    "Trigger",
    "TriggerDetails",
]
