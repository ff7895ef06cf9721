"""What is on the cluster: runs, their actions, tasks, artifacts, read from the log.

Methods have a plain form and an `.aio` one.
"""

from typing import Any

from millstream._absent import refusal
from millstream._artifact_selection import PartitionSchema
from millstream._outputs import ActionOutputs
from millstream._remote_action import Action
from millstream._remote_app import App
from millstream._remote_artifact import ArtifactGroup, ArtifactNotFoundError
from millstream._remote_artifacts import Artifact
from millstream._remote_condition import Condition
from millstream._remote_details import ActionDetails
from millstream._remote_project import Project
from millstream._remote_queue import Queue
from millstream._remote_records import ActionInputs, TimeFilter
from millstream._remote_secret import Secret, SecretTypes
from millstream._remote_task import LazyEntity, TaskDetails
from millstream._remote_tasks import Task
from millstream._remote_trigger import Trigger, TriggerDetails
from millstream._remote_user import User, auth_metadata
from millstream._run import Run
from millstream._run_reads import RunDetails
from millstream._uploads import upload_dir, upload_file

__all__ = [
    "Action",
    "ActionDetails",
    "ActionInputs",
    "ActionOutputs",
    "App",
    "Artifact",
    "ArtifactGroup",
    "ArtifactNotFoundError",
    "Condition",
    "LazyEntity",
    "PartitionSchema",
    "Project",
    "Queue",
    "Run",
    "RunDetails",
    "Secret",
    "SecretTypes",
    "Task",
    "TaskDetails",
    "TimeFilter",
    "Trigger",
    "TriggerDetails",
    "User",
    "auth_metadata",
    "upload_dir",
    "upload_file",
]


def __getattr__(name: str) -> Any:
    raise refusal("remote", name, __all__)
