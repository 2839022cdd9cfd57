"""Every setting, once: options, environment, INI file and reference are made from this table. Pure."""

from __future__ import annotations

from typing import Any

from tefmanager.config import kinds
from tefmanager.config.kinds import Setting as Setting

SECTION = "tef-manager"
"""The one section of the INI file."""


CONFIG = Setting(
    "config", kinds.FILE, "", "INI file with any of these settings.", default_note="none", in_file=False
)
ENV = Setting(
    "env",
    kinds.ENVIRONMENT,
    "dev",
    "Environment, any case: dev, test or prod. Names the variables and files of the services.",
    ("TEF_ENV",),
)
SANDBOX = Setting(
    "sandbox",
    kinds.FLAG,
    "no",
    "Start a private RabbitMQ, PostgreSQL and Etcd in a temporary folder and run on these; "
    "what is set for the services is left aside.",
)

AMQP_URL = Setting(
    "amqp-url",
    kinds.URL,
    "",
    "RabbitMQ: amqp:// or amqps://, user information percent-encoded; several, separated by commas, are "
    "tried in turn. On the command line it must not hold a password.",
    ("TEF_AMQP_URL_<ENV>",),
    default_note="none, required",
    secret=True,
)
AMQP_USER = Setting(
    "amqp-user",
    kinds.TEXT,
    "",
    "User at RabbitMQ, instead of the URL's.",
    ("TEF_AMQP_USER_<ENV>",),
    default_note="from the URL, else guest",
    option=False,
)
AMQP_PASSWORD = Setting(
    "amqp-password",
    kinds.TEXT,
    "",
    "Password at RabbitMQ, instead of the URL's.",
    ("TEF_AMQP_PASSWORD_<ENV>",),
    default_note="from the URL, else guest",
    option=False,
    secret=True,
)
AMQP_CA = Setting(
    "amqp-ca",
    kinds.FILE,
    "",
    "PEM file with the certificates of the CAs that amqps:// trusts, instead of the URL's cacertfile.",
    ("TEF_AMQP_CA_<ENV>",),
    default_note="from the URL, else the system's",
)
AMQP_CERT = Setting(
    "amqp-cert",
    kinds.FILE,
    "",
    "PEM file with our certificate for amqps://, instead of the URL's certfile and keyfile.",
    ("TEF_AMQP_CERT_<ENV>",),
    default_note="from the URL, else none",
)
AMQP_KEY = Setting(
    "amqp-key",
    kinds.FILE,
    "",
    "PEM file with the private key of amqp-cert.",
    ("TEF_AMQP_KEY_<ENV>",),
    default_note="the file of amqp-cert",
)
DB_CONFIG = Setting(
    "db-config",
    kinds.FOLDER,
    "",
    "Folder that holds database_<env>.yml, which says how to reach PostgreSQL.",
    default_note="none, required",
)
ETCD_HOST = Setting(
    "etcd-host",
    kinds.HOSTS,
    "127.0.0.1",
    "Etcd: host or host:port; several members of a cluster separated by commas.",
    ("TEF_ETCD_HOST_<ENV>",),
)
ETCD_PORT = Setting(
    "etcd-port",
    kinds.PORT,
    "",
    "Etcd's port, for the hosts that come without one.",
    ("TEF_ETCD_PORT_<ENV>",),
    default_note="2379, then 4001",
)
ETCD_API = Setting(
    "etcd-api",
    kinds.ETCD_API,
    "auto",
    "Etcd's interface: v2, v3, or auto, which takes v2 where the resources' base key exists there.",
)
ETCD_TLS = Setting(
    "etcd-tls",
    kinds.FLAG,
    "",
    "Speak https to Etcd.",
    ("TEF_ETCD_TLS_<ENV>",),
    default_note="yes with etcd-ca or etcd-cert, else no",
)
ETCD_CA = Setting(
    "etcd-ca",
    kinds.FILE,
    "",
    "PEM file with the certificates of the CAs that are trusted to know Etcd.",
    ("TEF_ETCD_CA_<ENV>",),
    default_note="the system's",
)
ETCD_CERT = Setting(
    "etcd-cert",
    kinds.FILE,
    "",
    "PEM file with our certificate for Etcd.",
    ("TEF_ETCD_CERT_<ENV>",),
    default_note="none",
)
ETCD_KEY = Setting(
    "etcd-key",
    kinds.FILE,
    "",
    "PEM file with the private key of etcd-cert.",
    ("TEF_ETCD_KEY_<ENV>",),
    default_note="the file of etcd-cert",
)
ETCD_USER = Setting(
    "etcd-user",
    kinds.TEXT,
    "",
    "User at Etcd.",
    ("TEF_ETCD_USER_<ENV>",),
    default_note="none",
    option=False,
)
ETCD_PASSWORD = Setting(
    "etcd-password",
    kinds.TEXT,
    "",
    "Password at Etcd.",
    ("TEF_ETCD_PASSWORD_<ENV>",),
    default_note="none",
    option=False,
    secret=True,
)

NAME_PREFIX = Setting(
    "name-prefix",
    kinds.NAME_PREFIX,
    "tef.<env>",
    "What the names of the manager's queues begin with. Managers with different ones run side by side.",
)
IN_QUEUE = Setting(
    "in-queue",
    kinds.QUEUE_NAME,
    "<prefix>.manager",
    "Queue that the manager takes its messages from.",
)
BIND = Setting(
    "bind",
    kinds.BINDINGS,
    "",
    "Bind that queue to a topic exchange of another program, with a routing key; repeatable.",
    default_note="none",
    repeatable=True,
)
MESSAGE_LIMIT = Setting(
    "message-limit", kinds.BYTES, "16777216", "Longest message that is taken for a task, in bytes."
)
NO_EVENTS = Setting(
    "no-events",
    kinds.FLAG,
    "no",
    "Publish nothing to <prefix>.manager.events, the exchange on which others follow what happens.",
)

WORKER_UPDATE_INTERVAL = Setting(
    "worker-update-interval", kinds.SECONDS, "30", "Seconds in which a worker should be heard once."
)
MISSING_INTERVAL = Setting(
    "missing-interval",
    kinds.SECONDS,
    "",
    "Seconds of silence after which a worker is missing and loses its task.",
    default_note="3 x worker-update-interval",
)
TIME_LIMIT = Setting(
    "time-limit", kinds.SECONDS, "600", "Seconds a task may be worked on, where it does not say itself."
)
DISPATCH_TIMEOUT = Setting(
    "dispatch-timeout",
    kinds.SECONDS,
    "30",
    "Seconds a worker has to say that it works on what it was sent.",
)
RELEASE_GRACE = Setting(
    "release-grace",
    kinds.SECONDS,
    "2",
    "Seconds after which a worker that says idle in the midst of a task has given the task up.",
)
DISPATCH_INTERVAL = Setting(
    "dispatch-interval",
    kinds.SECONDS,
    "10",
    "Seconds between the passes that dispatch whatever no event has dispatched.",
)
SILENCE_LIMIT = Setting(
    "silence-limit",
    kinds.SILENCE,
    "12",
    "Seconds after which a service that does not answer is given up; and a frozen manager is succeeded.",
)
PATIENCE = Setting(
    "patience",
    kinds.SECONDS,
    "10",
    "Seconds a task is first in line and short of resources before it holds its claim on them.",
)

MAX_ATTEMPTS = Setting(
    "max-attempts",
    kinds.COUNT,
    "5",
    "How often a task is tried before it goes to the dead queue; 0: for ever.",
)
UNKNOWN_RESOURCES = Setting(
    "unknown-resources",
    kinds.UNKNOWN_RESOURCES,
    "allow",
    "What a resource without an entry in Etcd does: allow (it limits nothing) or wait (its tasks wait).",
)
HISTORY_DAYS = Setting(
    "history-days", kinds.DAYS, "7", "Days for which finished tasks are kept in history; may be a fraction."
)

LOG_FILE = Setting(
    "log-file",
    kinds.FILE,
    "",
    "File to append the log to; it is opened anew on SIGHUP, and when it was renamed or removed.",
    default_note="none: standard output, or what twistd's own options say",
)
LOG_FORMAT = Setting(
    "log-format",
    kinds.LOG_FORMAT,
    "text",
    "What a line of the log is: text, or json, an object with the same fields.",
)
LOG_LEVEL = Setting(
    "log-level",
    kinds.LOG_LEVEL,
    "info",
    "Least important level that is logged: debug, info, warn or error.",
)

LOG_EXCERPT = Setting(
    "log-excerpt",
    kinds.COUNT,
    "200",
    "Characters that are logged of a message that nobody can use; 0: none.",
)

HTTP = Setting(
    "http",
    kinds.ENDPOINT,
    "tcp:8090:interface=127.0.0.1",
    "Where the page, JSON and metrics are, as Twisted names places; empty: nowhere.",
    may_be_empty=True,
)
HTTP_HOST = Setting(
    "http-host",
    kinds.HOST_NAMES,
    "",
    "Names by which the page is reached, beside localhost and the address it listens at.",
    default_note="none",
)
HTTP_TOKEN_FILE = Setting(
    "http-token-file",
    kinds.FILE,
    "",
    "File with the token that lets the page do something.",
    default_note="none",
)

GROUPS: dict[str, tuple[Setting[Any], ...]] = {
    "General": (CONFIG, ENV, SANDBOX),
    "Services": (
        AMQP_URL,
        AMQP_USER,
        AMQP_PASSWORD,
        AMQP_CA,
        AMQP_CERT,
        AMQP_KEY,
        DB_CONFIG,
        ETCD_HOST,
        ETCD_PORT,
        ETCD_API,
        ETCD_TLS,
        ETCD_CA,
        ETCD_CERT,
        ETCD_KEY,
        ETCD_USER,
        ETCD_PASSWORD,
    ),
    "Queues": (NAME_PREFIX, IN_QUEUE, BIND, MESSAGE_LIMIT, NO_EVENTS),
    "Times": (
        WORKER_UPDATE_INTERVAL,
        MISSING_INTERVAL,
        TIME_LIMIT,
        DISPATCH_TIMEOUT,
        RELEASE_GRACE,
        DISPATCH_INTERVAL,
        PATIENCE,
        SILENCE_LIMIT,
    ),
    "Tasks": (MAX_ATTEMPTS, UNKNOWN_RESOURCES, HISTORY_DAYS),
    "Log": (LOG_FILE, LOG_FORMAT, LOG_LEVEL, LOG_EXCERPT),
    "Page": (HTTP, HTTP_HOST, HTTP_TOKEN_FILE),
}
"""All settings, in the order in which people are shown them."""

SETTINGS: dict[str, Setting[Any]] = {
    setting.name: setting for group in GROUPS.values() for setting in group
}
"""All settings by name."""


def reference_table(group: str) -> str:
    """Return the Markdown table of a group, as it stands in ``docs/configuration.md``."""
    rows = ["| setting | variables | default | meaning |", "| --- | --- | --- | --- |"]
    return "\n".join([*rows, *(_reference_row(setting) for setting in GROUPS[group])])


def _reference_row(setting: Setting[Any]) -> str:
    name = f"`--{setting.name}`" if setting.option else f"`{setting.name}` (not an option)"
    variables = ", ".join(f"`{name}`" for name in (setting.own_variable, *setting.variables))
    default = setting.default_note or f"`{setting.default}`"
    meaning = setting.help.replace("<", "&lt;")
    return f"| {name} | {variables} | {default} | {meaning} |"
