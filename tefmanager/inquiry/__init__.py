"""Answers questions about a manager: its state, its workers, what waits, and why.

Pure functions read a `Core` and return frozen values that can be encoded as JSON. They change nothing that
matters to it, and each does a bounded amount of work: of what there may be very many, only some are
returned, with a total beside them. Times are unix times, durations seconds.

What only the database knows (tasks that are unread or finished, attempts that ended) is passed in as rows.
"""

from tefmanager.inquiry.answers import (
    AttemptInfo,
    DeadTask,
    DeadTasks,
    Explanation,
    Holder,
    Reason,
    ResourceInfo,
    Resources,
    Status,
    SuiteInfo,
    Suites,
    TaskDetail,
    TaskInfo,
    Tasks,
    Waiter,
    Waiting,
    WorkerDetail,
    Workers,
)
from tefmanager.inquiry.explain import explain, explain_finished
from tefmanager.inquiry.pages import History
from tefmanager.inquiry.queued import (
    DeadDetail,
    QueuedMessage,
    QueuedMessages,
    Retried,
    dead_detail,
    queued,
)
from tefmanager.inquiry.resource_answers import resources
from tefmanager.inquiry.status_answers import headline, status, suites
from tefmanager.inquiry.task_answers import (
    TaskFilter,
    describe_dead,
    describe_task,
    find_tasks,
    finished_task,
    task_in_memory,
    task_of_row,
)
from tefmanager.inquiry.worker_answers import workers

__all__ = [
    "AttemptInfo",
    "DeadDetail",
    "DeadTask",
    "DeadTasks",
    "Explanation",
    "History",
    "Holder",
    "QueuedMessage",
    "QueuedMessages",
    "Reason",
    "ResourceInfo",
    "Resources",
    "Retried",
    "Status",
    "SuiteInfo",
    "Suites",
    "TaskDetail",
    "TaskFilter",
    "TaskInfo",
    "Tasks",
    "Waiter",
    "Waiting",
    "WorkerDetail",
    "Workers",
    "dead_detail",
    "describe_dead",
    "describe_task",
    "explain",
    "explain_finished",
    "find_tasks",
    "finished_task",
    "headline",
    "queued",
    "resources",
    "status",
    "suites",
    "task_in_memory",
    "task_of_row",
    "workers",
]
