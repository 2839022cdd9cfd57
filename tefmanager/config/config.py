"""Builds one frozen `Config` from environment, options and files; reports all mistakes at once. Pure.

`tefmanager.config.settings` describes the settings; the reference is ``docs/configuration.md``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from tefmanager.config import settings
from tefmanager.config.database_yml import read_database
from tefmanager.config.endpoints import AmqpEndpoint, EtcdAccess, parse_amqp_url
from tefmanager.config.http_settings import HttpConfig, http_config
from tefmanager.config.kinds import (
    ETCD_PORTS,
    EtcdApi,
    LogFormat,
    Threshold,
    UnknownResources,
    shown,
    shown_path,
)
from tefmanager.config.libpq import variables_of_libpq, with_place, with_whole_paths
from tefmanager.config.secrets import Secrets
from tefmanager.config.sources import ConfigError, Found, Sources, gather
from tefmanager.config.tls_settings import etcd_access, with_tls

__all__ = ["Config", "ConfigError", "HttpConfig", "LogConfig", "config_from", "log_config_from"]

NO_DATABASE: Mapping[str, str] = MappingProxyType({})
"""The value of ``Config.database`` until the sandbox has started its database."""


@dataclass(frozen=True, slots=True)
class LogConfig:
    """Where the log goes, and in which format.

    Attributes:
        file: its path; empty: none.
        format: the format of its lines.
        level: the lowest level that is logged.
        excerpt: how many characters of an unusable message are logged.
    """

    file: str = ""
    format: LogFormat = LogFormat.TEXT
    level: Threshold = Threshold.INFO
    excerpt: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings. Its repr shows no password. Times are in seconds.

    Attributes:
        env: "dev", "test" or "prod".
        name_prefix: the first part of the names of the manager's queues and exchange.
        in_queue: the manager's queue.
        bindings: (exchange, routing key) pairs to which that queue is bound.
        amqp: brokers, tried in turn; empty in a sandbox.
        database: libpq's keywords and their values; empty in a sandbox.
        etcd: (host, port) pairs, tried in turn; empty in a sandbox.
        etcd_access: TLS files and login for Etcd.
        etcd_api: which of Etcd's APIs to use.
        worker_update_interval: within which each worker should send a message.
        missing_interval: silence after which a worker counts as missing.
        time_limit: for tasks that have none of their own.
        dispatch_timeout: within which a worker must say *working*.
        release_grace: after which *idle* during a task means that the worker has given it up.
        dispatch_interval: between two regular passes that dispatch whatever was overlooked.
        max_attempts: number of attempts after which a task is dead; 0: no limit.
        patience: after which the first task in line claims its resources.
        silence_limit: after which a connection to a silent service is dropped.
        unknown_resources: how to treat a name without an entry in Etcd.
        history_days: how long finished tasks are kept.
        message_limit: size of the largest accepted message, in bytes.
        events: whether events are published.
        sandbox: whether the manager starts the services itself.
        log: where the log goes.
        http: what is served over HTTP.
        warnings: logged at the start, and after each reload.
    """

    env: str
    name_prefix: str
    in_queue: str
    bindings: tuple[tuple[str, str], ...] = ()
    amqp: tuple[AmqpEndpoint, ...] = field(default=(), repr=False)
    database: Mapping[str, str] = field(default_factory=lambda: NO_DATABASE, repr=False, hash=False)
    etcd: tuple[tuple[str, int], ...] = ()
    etcd_access: EtcdAccess = field(default_factory=EtcdAccess)
    etcd_api: EtcdApi = EtcdApi.AUTO
    worker_update_interval: float = 30.0
    missing_interval: float = 90.0
    time_limit: float = 600.0
    dispatch_timeout: float = 30.0
    release_grace: float = 2.0
    dispatch_interval: float = 10.0
    max_attempts: int = 5
    patience: float = 10.0
    silence_limit: float = 12.0
    unknown_resources: UnknownResources = UnknownResources.ALLOW
    history_days: float = 7.0
    message_limit: int = 16 * 1024 * 1024
    events: bool = True
    sandbox: bool = False
    log: LogConfig = field(default_factory=LogConfig)
    http: HttpConfig = field(default_factory=HttpConfig)
    warnings: tuple[str, ...] = field(default=(), compare=False)

    @property
    def dead_queue(self) -> str:
        """The queue for tasks that are out of attempts."""
        return f"{self.name_prefix}.manager.dead"

    @property
    def rejected_queue(self) -> str:
        """The queue for messages that nobody can use."""
        return f"{self.name_prefix}.manager.rejected"

    @property
    def events_exchange(self) -> str:
        """The topic exchange for events."""
        return f"{self.name_prefix}.manager.events"

    @property
    def etcd_base(self) -> str:
        """The base key of the resources."""
        return f"/tef/{self.env}/resources"

    @property
    def secrets(self) -> tuple[str, ...]:
        """All secrets, in the form in which the services get them."""
        token = self.http.token or b""
        return (
            *(endpoint.password for endpoint in self.amqp),
            *(self.database.get(key, "") for key in ("password", "sslpassword")),
            self.etcd_access.password,
            self.etcd_access.basic if self.etcd_access.password else "",
            token.decode(),
        )

    def with_services(self, amqp_url: str, database: Mapping[str, str], etcd: tuple[str, int]) -> Config:
        """Return a copy that uses other services: those of a sandbox."""
        return replace(
            self,
            amqp=(_endpoint(amqp_url, self.silence_limit),),
            database=MappingProxyType(dict(database)),
            etcd=(etcd,),
            etcd_access=EtcdAccess(),
        )


def config_from(
    options: Mapping[str, object], environ: Mapping[str, str], *, database: bool = True
) -> Config:
    """Build the configuration from options, environment and files; raises `ConfigError`.

    ``options`` are those of the command line by name; one that is None, false or empty was not given.
    "problem" among them says why the command line could not be parsed. ``database``: False for programs
    that do not use the database.
    """
    problem = options.get("problem")
    if problem:
        raise ConfigError([str(problem)])
    sources = gather(options, environ)
    incomplete = bool(sources.problems)
    config = _with_names(sources, _behaviour(sources))
    if not config.sandbox and not incomplete:
        config = _services(sources, config, database)
    if sources.problems:
        secrets = Secrets(sources.secrets())
        raise ConfigError([secrets.hide(problem) for problem in sources.problems])
    return replace(config, warnings=tuple(sources.warnings))


def _behaviour(sources: Sources) -> Config:
    """Return a configuration without services, whose names are still provisional."""
    update = sources.value(settings.WORKER_UPDATE_INTERVAL)
    return Config(
        env=sources.env,
        name_prefix="",
        in_queue="",
        etcd_api=sources.value(settings.ETCD_API),
        worker_update_interval=update,
        missing_interval=sources.optional(settings.MISSING_INTERVAL) or 3 * update,
        time_limit=sources.value(settings.TIME_LIMIT),
        dispatch_timeout=sources.value(settings.DISPATCH_TIMEOUT),
        release_grace=sources.value(settings.RELEASE_GRACE),
        dispatch_interval=sources.value(settings.DISPATCH_INTERVAL),
        max_attempts=sources.value(settings.MAX_ATTEMPTS),
        patience=sources.value(settings.PATIENCE),
        silence_limit=sources.value(settings.SILENCE_LIMIT),
        unknown_resources=sources.value(settings.UNKNOWN_RESOURCES),
        history_days=sources.value(settings.HISTORY_DAYS),
        message_limit=sources.value(settings.MESSAGE_LIMIT),
        events=not sources.value(settings.NO_EVENTS),
        sandbox=sources.value(settings.SANDBOX),
        log=_log(sources),
        http=http_config(sources),
    )


def log_config_from(options: Mapping[str, object], environ: Mapping[str, str]) -> LogConfig:
    """Return where the log goes, even if other settings are wrong: their errors must be logged there."""
    return _log(gather(options, environ))


def _log(sources: Sources) -> LogConfig:
    return LogConfig(
        sources.optional(settings.LOG_FILE) or "",
        sources.value(settings.LOG_FORMAT),
        sources.value(settings.LOG_LEVEL),
        sources.value(settings.LOG_EXCERPT),
    )


def _with_names(sources: Sources, config: Config) -> Config:
    prefix = sources.value(settings.NAME_PREFIX)
    sources.substitutes["<prefix>"] = prefix
    named = replace(
        config,
        name_prefix=prefix,
        in_queue=sources.value(settings.IN_QUEUE),
        bindings=sources.optional(settings.BIND) or (),
    )
    if named.in_queue in (named.dead_queue, named.rejected_queue):
        where = _where(sources.find(settings.IN_QUEUE), settings.IN_QUEUE.own_variable)
        sources.problems.append(
            f"{where} is {shown(named.in_queue)}, which is the queue of dead tasks or of rejected messages"
        )
    return named


def _services(sources: Sources, config: Config, database: bool) -> Config:
    return replace(
        config,
        amqp=_amqp(sources, config.silence_limit),
        database=MappingProxyType(_database(sources)) if database else NO_DATABASE,
        etcd=_etcd(sources),
        etcd_access=etcd_access(sources),
    )


def _where(found: Found | None, otherwise: str) -> str:
    return otherwise if found is None else found.where


def _amqp(sources: Sources, silence_limit: float) -> tuple[AmqpEndpoint, ...]:
    found = sources.find(settings.AMQP_URL)
    variable = f"TEF_AMQP_URL_{sources.env.upper()}"
    if found is None:
        sources.problems.append(f"{variable} is not set, expected {settings.AMQP_URL.kind.expected}")
        return ()
    if found.where.startswith("--") and _has_password(found.text):
        sources.problems.append(
            f"{found.where} has a password in it, which ps shows to everybody;"
            f" expected it in {variable} or in the file that --config names"
        )
        return ()
    if not sources.is_text(found):
        return ()
    try:
        endpoints = tuple(_endpoint(url, silence_limit) for url in _urls(found.text))
        if any(parse_amqp_url(url, heartbeat=1).heartbeat == 0 for url in _urls(found.text)):
            sources.warnings.append(
                f"{found.where}: heartbeat=0 is ignored, because a silent network would go unnoticed;"
                f" expected 1 or more, or no heartbeat in the URL ({endpoints[0].heartbeat})"
            )
    except ValueError as error:
        sources.problems.append(f"{found.where}: {error}; expected {settings.AMQP_URL.kind.expected}")
        return ()
    endpoints = with_tls(sources, endpoints, found.where)
    return tuple(_with_account(sources, endpoint) for endpoint in endpoints)


def _has_password(urls: str) -> bool:
    return any(re.search(r":[^@]*@", url.partition("://")[2] or url) for url in _urls(urls))


def _urls(text: str) -> list[str]:
    """Split a text at the commas between URLs; a password may contain commas too."""
    return re.split(r"[,\s]+(?=amqps?://)", text.strip(", \n"), flags=re.IGNORECASE)


def _endpoint(url: str, silence_limit: float) -> AmqpEndpoint:
    """Parse a URL; if it ends in "/", the vhost is "/", because nobody uses one without a name."""
    if re.search(r"(^|@)[^@]*,[^@]*$|@[^@]*,", url):
        raise ValueError("each of several URLs begins with amqp:// or amqps:// (a , in one is %2C)")
    # A broker is dropped after two silent intervals, which takes up to half an interval to notice.
    heartbeat = max(1, int(silence_limit / 2.4))
    endpoint = parse_amqp_url(url, heartbeat=heartbeat)
    # Without heartbeats, a dead network can't be told from an idle one.
    endpoint = replace(endpoint, heartbeat=endpoint.heartbeat or heartbeat)
    return endpoint if endpoint.vhost else replace(endpoint, vhost="/")


def _with_account(sources: Sources, endpoint: AmqpEndpoint) -> AmqpEndpoint:
    user = sources.optional(settings.AMQP_USER)
    password = sources.optional(settings.AMQP_PASSWORD)
    return replace(
        endpoint,
        user=endpoint.user if user is None else user,
        password=endpoint.password if password is None else password,
    )


UNVERIFIED = ("allow", "prefer", "require")
"""libpq's modes that use TLS, if at all, without verifying the server."""


def _database(sources: Sources) -> dict[str, str]:
    found = sources.find(settings.DB_CONFIG)
    file_name = f"database_{sources.env}.yml"
    if found is None:
        variable = settings.DB_CONFIG.own_variable
        sources.problems.append(f"{variable} is not set, expected the folder that holds {file_name}")
        return {}
    folder = Path(sources.substituted(found.text))
    try:
        if not folder.is_dir():
            raise ConfigError(
                [f"{shown_path(folder)} is no folder, expected the one that holds {file_name}"]
            )
        said = read_database(folder / file_name, sources.env)
        database = with_whole_paths(with_place(said, sources.environ))
    except ConfigError as error:
        sources.problems.extend(f"{found.where}: {problem}" for problem in error.problems)
        return {}
    if (mode := database.get("sslmode")) in UNVERIFIED:
        sources.warnings.append(
            f"{shown_path(folder / file_name)}: sslmode {mode} accepts any server,"
            " even one that somebody put in between; verify-full does not"
        )
    sources.warnings.extend(variables_of_libpq(said, sources.environ))
    return database


def _etcd(sources: Sources) -> tuple[tuple[str, int], ...]:
    hosts = sources.value(settings.ETCD_HOST)
    port = sources.optional(settings.ETCD_PORT)
    tried = ETCD_PORTS if port is None else (port,)
    # All members are tried at the likelier port before any is tried at the other port.
    pairs = ((host, own or other) for other in tried for host, own in hosts)
    return tuple(dict.fromkeys(pairs))
