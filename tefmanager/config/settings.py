"""The table of all settings. Options, environment, INI file and reference are made from it. Pure."""

from __future__ import annotations

from typing import Any

from tefmanager.config import kinds
from tefmanager.config.kinds import Setting as Setting

SECTION = "tef-manager"
"""The only section of the INI file."""


CONFIG = Setting(
    "config", kinds.FILE, "", "INI file with any of these settings.", default_note="none", in_file=False
)
ENV = Setting(
    "env",
    kinds.ENVIRONMENT,
    "dev",
    "Environment: dev, test or prod, in any case. It is part of the names of variables, files, queues and "
    "tables.",
    ("TEF_ENV",),
)
SANDBOX = Setting(
    "sandbox",
    kinds.FLAG,
    "no",
    "Start a private RabbitMQ, PostgreSQL and Etcd in a temporary folder and use these. All settings for "
    "other servers are ignored.",
)

AMQP_URL = Setting(
    "amqp-url",
    kinds.URL,
    "",
    "URL of RabbitMQ: amqp:// or amqps://, with user and password percent-encoded. Several URLs, separated "
    "by commas, are tried one after the other. On the command line it must not contain a password.",
    ("TEF_AMQP_URL_<ENV>",),
    default_note="none, required",
    secret=True,
)
AMQP_USER = Setting(
    "amqp-user",
    kinds.TEXT,
    "",
    "User for RabbitMQ. It replaces the user in the URL.",
    ("TEF_AMQP_USER_<ENV>",),
    default_note="from the URL, else guest",
    option=False,
)
AMQP_PASSWORD = Setting(
    "amqp-password",
    kinds.TEXT,
    "",
    "Password for RabbitMQ. It replaces the password in the URL.",
    ("TEF_AMQP_PASSWORD_<ENV>",),
    default_note="from the URL, else guest",
    option=False,
    secret=True,
)
AMQP_CA = Setting(
    "amqp-ca",
    kinds.FILE,
    "",
    "PEM file with the CA certificates to trust for amqps://. It replaces cacertfile in the URL.",
    ("TEF_AMQP_CA_<ENV>",),
    default_note="from the URL, else the system's",
)
AMQP_CERT = Setting(
    "amqp-cert",
    kinds.FILE,
    "",
    "PEM file with the manager's certificate for amqps://. It replaces certfile and keyfile in the URL.",
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
    "Folder with the file database_<env>.yml, which says how to connect to PostgreSQL.",
    default_note="none, required",
)
ETCD_HOST = Setting(
    "etcd-host",
    kinds.HOSTS,
    "127.0.0.1",
    "Etcd, as host or host:port. Separate the members of a cluster by commas.",
    ("TEF_ETCD_HOST_<ENV>",),
)
ETCD_PORT = Setting(
    "etcd-port",
    kinds.PORT,
    "",
    "Port of Etcd, for hosts that are given without one.",
    ("TEF_ETCD_PORT_<ENV>",),
    default_note="2379, then 4001",
)
ETCD_API = Setting(
    "etcd-api",
    kinds.ETCD_API,
    "auto",
    "API of Etcd: v2, v3 or auto. With auto, the manager uses v2 if the base key of the resources exists "
    "there, and v3 otherwise.",
)
ETCD_TLS = Setting(
    "etcd-tls",
    kinds.FLAG,
    "",
    "Use https for Etcd.",
    ("TEF_ETCD_TLS_<ENV>",),
    default_note="yes with etcd-ca or etcd-cert, else no",
)
ETCD_CA = Setting(
    "etcd-ca",
    kinds.FILE,
    "",
    "PEM file with the CA certificates to trust for Etcd.",
    ("TEF_ETCD_CA_<ENV>",),
    default_note="the system's",
)
ETCD_CERT = Setting(
    "etcd-cert",
    kinds.FILE,
    "",
    "PEM file with the manager's certificate for Etcd.",
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
    "User for Etcd.",
    ("TEF_ETCD_USER_<ENV>",),
    default_note="none",
    option=False,
)
ETCD_PASSWORD = Setting(
    "etcd-password",
    kinds.TEXT,
    "",
    "Password for Etcd.",
    ("TEF_ETCD_PASSWORD_<ENV>",),
    default_note="none",
    option=False,
    secret=True,
)

NAME_PREFIX = Setting(
    "name-prefix",
    kinds.NAME_PREFIX,
    "tef.<env>",
    "First part of the names of the manager's queues. Managers with different prefixes do not affect each "
    "other.",
)
IN_QUEUE = Setting(
    "in-queue",
    kinds.QUEUE_NAME,
    "<prefix>.manager",
    "Queue from which the manager consumes messages.",
)
BIND = Setting(
    "bind",
    kinds.BINDINGS,
    "",
    "Bind that queue to a topic exchange of another program: exchange and routing key. Repeatable.",
    default_note="none",
    repeatable=True,
)
MESSAGE_LIMIT = Setting(
    "message-limit", kinds.BYTES, "16777216", "Largest message that the manager accepts, in bytes."
)
NO_EVENTS = Setting(
    "no-events",
    kinds.FLAG,
    "no",
    "Publish no events to the exchange <prefix>.manager.events, which other programs can listen to.",
)

WORKER_UPDATE_INTERVAL = Setting(
    "worker-update-interval",
    kinds.SECONDS,
    "30",
    "Seconds within which each worker should send at least one message.",
)
MISSING_INTERVAL = Setting(
    "missing-interval",
    kinds.SECONDS,
    "",
    "Seconds without a message after which a worker counts as missing, and the manager takes its task "
    "away.",
    default_note="3 x worker-update-interval",
)
TIME_LIMIT = Setting(
    "time-limit", kinds.SECONDS, "600", "Seconds that a task may run if it has no time limit of its own."
)
DISPATCH_TIMEOUT = Setting(
    "dispatch-timeout",
    kinds.SECONDS,
    "30",
    "Seconds within which a worker must report that it works on a task it was sent. A worker that says "
    "that it is free may still leave its queue unread for a while: set a longer time than that.",
)
RELEASE_GRACE = Setting(
    "release-grace",
    kinds.SECONDS,
    "2",
    "Seconds to wait for another message from a worker that reports idle during a task. After that, the "
    "worker has given the task up.",
)
DISPATCH_INTERVAL = Setting(
    "dispatch-interval",
    kinds.SECONDS,
    "10",
    "Seconds between two regular passes, in which the manager dispatches every task that it should have "
    "dispatched before.",
)
SILENCE_LIMIT = Setting(
    "silence-limit",
    kinds.SILENCE,
    "12",
    "Seconds after which the manager drops the connection to a service that does not answer, and after "
    "which a standby replaces a manager that is frozen.",
)
PATIENCE = Setting(
    "patience",
    kinds.SECONDS,
    "10",
    "Seconds that a task of several resources waits for them as the first in line. After that, the manager "
    "keeps these resources for it, so that other tasks no longer take them.",
)

MAX_ATTEMPTS = Setting(
    "max-attempts",
    kinds.COUNT,
    "5",
    "Number of attempts after which a failing task goes to the dead queue. 0: no limit.",
)
UNKNOWN_RESOURCES = Setting(
    "unknown-resources",
    kinds.UNKNOWN_RESOURCES,
    "allow",
    "Tasks that name a resource without an entry in Etcd: allow (they run, the resource is unlimited) or "
    "wait (they wait until there is an entry).",
)
HISTORY_DAYS = Setting(
    "history-days", kinds.DAYS, "7", "Days to keep finished tasks in history. May be a fraction."
)

LOG_FILE = Setting(
    "log-file",
    kinds.FILE,
    "",
    "File to append the log to. The manager reopens it on SIGHUP, and when it was renamed or removed.",
    default_note="none: standard output, or what twistd's own options say",
)
LOG_FORMAT = Setting(
    "log-format",
    kinds.LOG_FORMAT,
    "text",
    "Format of the log: text, or json, where each line is an object with the same fields.",
)
LOG_LEVEL = Setting(
    "log-level",
    kinds.LOG_LEVEL,
    "info",
    "Lowest level that is logged: debug, info, warn or error.",
)

LOG_EXCERPT = Setting(
    "log-excerpt",
    kinds.COUNT,
    "200",
    "Number of characters of an unusable message that are logged. 0: none.",
)

HTTP = Setting(
    "http",
    kinds.ENDPOINT,
    "tcp:8090:interface=127.0.0.1",
    "Address of the page, the JSON API and the metrics, as a Twisted endpoint. Empty: no HTTP.",
    may_be_empty=True,
)
HTTP_HOST = Setting(
    "http-host",
    kinds.HOST_NAMES,
    "",
    "Host names at which the page is reached, in addition to localhost and the address it listens on.",
    default_note="none",
)
HTTP_TOKEN_FILE = Setting(
    "http-token-file",
    kinds.FILE,
    "",
    "File with the token that allows changes from the page.",
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
"""All settings, in the order in which people see them."""

SETTINGS: dict[str, Setting[Any]] = {
    setting.name: setting for group in GROUPS.values() for setting in group
}
"""All settings by name."""


def reference_table(group: str) -> str:
    """Return the Markdown table of a group, as in ``docs/configuration.md``."""
    rows = ["| setting | variables | default | meaning |", "| --- | --- | --- | --- |"]
    return "\n".join([*rows, *(_reference_row(setting) for setting in GROUPS[group])])


def _reference_row(setting: Setting[Any]) -> str:
    name = f"`--{setting.name}`" if setting.option else f"`{setting.name}` (not an option)"
    variables = ", ".join(f"`{name}`" for name in (setting.own_variable, *setting.variables))
    default = setting.default_note or f"`{setting.default}`"
    meaning = setting.help.replace("<", "&lt;")
    return f"| {name} | {variables} | {default} | {meaning} |"
