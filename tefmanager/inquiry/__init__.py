"""What people ask of a manager: how it stands, who works, what waits, and why.

Pure functions look at a `Core` and return frozen values, which are ready to be encoded as JSON. They
change nothing that matters to it, and each does a bounded amount of work: whatever there may be very many
of is told in part, with a total beside it. Times are unix times, durations seconds.

What only the database knows (tasks that are unread or finished, attempts that ended) is handed in, as rows.
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
    "headline",
    "queued",
    "resources",
    "status",
    "suites",
    "task_in_memory",
    "task_of_row",
    "workers",
]
