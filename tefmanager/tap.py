"""The service of ``twistd tef-manager``: the one place that creates the adapters and connects them.

Nothing is started here: constructors connect to nothing, ``startService`` does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import chdir
from datetime import datetime
from pathlib import Path
from socket import gethostname
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.internet.endpoints import serverFromString

from tefmanager.amqp.budget import ChannelBudget
from tefmanager.amqp.connection import LinkState, OnMissing, OnState
from tefmanager.amqp.consumer import Consumer
from tefmanager.amqp.publisher import Publisher
from tefmanager.amqp.topology import Topology
from tefmanager.config.config import Config, ConfigError, config_from, log_config_from
from tefmanager.config.kinds import EtcdApi, UnknownResources, shown_path
from tefmanager.config.options import Options
from tefmanager.config.secrets import KNOWN
from tefmanager.core.model.limits import Limits
from tefmanager.etcd.auto import AutoReservations
from tefmanager.etcd.cluster import Cluster
from tefmanager.etcd.ownership import Owner
from tefmanager.etcd.v2 import EtcdV2Reservations
from tefmanager.etcd.v3 import EtcdV3Reservations
from tefmanager.interfaces.meter import IMeter, NoMeter
from tefmanager.interfaces.policy import Policy, Queues
from tefmanager.logfile.emit import emit
from tefmanager.logfile.observer import LogObserver
from tefmanager.logfile.twistd import fault_of_files
from tefmanager.logfile.wiring import Logged, open_log
from tefmanager.protocol import catalogue
from tefmanager.service.garbage import collect_rarely
from tefmanager.service.manager import Manager
from tefmanager.service.reloader import Reloader
from tefmanager.service.sandboxed import Sandboxed
from tefmanager.service.startup import end_well, exit_with, on_hangup, refuse
from tefmanager.service.supervised import Supervised
from tefmanager.service.systemd import Notifier
from tefmanager.status.journal import Following, Journal
from tefmanager.status.listener import StatusServer, for_group_only
from tefmanager.status.meter import Meter
from tefmanager.status.view import View
from tefmanager.store.names import lock_name_for, table_prefix_for
from tefmanager.store.silence import Silence
from tefmanager.store.store import Store
from tefmanager.support.clocks import read_clocks
from tefmanager.support.lease import Lease
from tefmanager.support.outages import NOT_YET, Outages, Service

__all__ = ["Options", "makeService"]

_DAY = 86400.0
_STDOUT = 1

_RESERVATIONS = {
    EtcdApi.AUTO: AutoReservations,
    EtcdApi.V2: EtcdV2Reservations,
    EtcdApi.V3: EtcdV3Reservations,
}


def load_config(options: Options) -> Config:
    """Return the configuration, or end the process with one line that says what is wrong with it."""
    try:
        return _read_config(options, Path())
    except ConfigError as error:
        refuse(str(error), options.parent, log_config_from(options, os.environ))


def _read_config(options: Options, folder: Path) -> Config:
    """Return the configuration; from now on its secrets are hidden in all texts that leave the process.

    Relative paths start at a folder: twistd changes its own once it has the service.
    """
    with chdir(folder):
        config = config_from(options, os.environ)
    KNOWN.learn(config.secrets)
    return config


def makeService(options: Options) -> IService:
    """Create the service that the options and the environment describe."""
    from twisted.internet import (
        reactor,
    )  # imported late: by now twistd has installed the reactor that it was asked for

    config, folder = load_config(options), Path.cwd()
    twistd: Mapping[str, Any] = options.parent or {}
    if (fault := fault_of_files(twistd, own_log=bool(config.log.file))) is not None:
        refuse(fault, options.parent, config.log)
    try:
        log = open_log(reactor, config.log, options.parent)
    except OSError as error:
        name = shown_path(config.log.file or "standard output")
        refuse(f"the log can't be written to {name}: {error.strerror}", options.parent)
    if (fault := _fault_of(config.http.endpoint, reactor)) is not None:
        refuse(fault, options.parent, config.log)
    end_well(reactor)
    reactor.callWhenRunning(collect_rarely)
    reactor.callWhenRunning(emit, *(catalogue.CONFIG_WARNING(text) for text in config.warnings))
    notifier = Notifier.of(os.environ)
    reloader = Reloader(lambda: _read_config(options, folder), config, notifier)
    in_terminal = twistd.get("nodaemon", True) and os.isatty(_STDOUT)
    if config.log.file or not in_terminal:  # in a terminal, SIGHUP means that somebody closed it
        _reload_on_hangup(reactor, reloader, log)
    service = _service(reactor, config, reloader, notifier)
    return service if log is None else Logged(service, log)


def _reload_on_hangup(reactor: Any, reloader: Reloader, log: LogObserver | None) -> None:
    """Make SIGHUP reopen the log file and reload the configuration."""

    def hangup() -> None:
        if log is not None:
            log.output.reopen()
        reloader.reload()

    if log is not None:
        reloader.follow(lambda found: log.change_level(found.log.level))
    on_hangup(reactor, hangup)


def _service(reactor: Any, config: Config, reloader: Reloader, notifier: Notifier) -> IService:
    give_up = exit_with(reactor)

    def make(found: Config) -> IService:
        return _watched(reactor, found, give_up, reloader, notifier)

    return Sandboxed(reactor, config, make, give_up) if config.sandbox else make(config)


def _fault_of(endpoint: str, reactor: Any) -> str | None:
    """Return what is wrong with an address to listen on, or None."""
    try:
        if endpoint:
            serverFromString(reactor, for_group_only(endpoint))  # type: ignore[no-untyped-call]
    except Exception as error:  # each kind of endpoint raises errors of its own
        return f"--http: {endpoint!r} is no place to listen at: {error}"
    return None


def _watched(
    reactor: Any,
    config: Config,
    give_up: Callable[[str], None],
    reloader: Reloader,
    notifier: Notifier,
) -> IService:
    """Create a manager, and what publishes its state over HTTP and to systemd."""
    watched = bool(config.http.endpoint or notifier)
    meter = Meter() if watched else NoMeter()
    silence = Silence(config.silence_limit)
    lease = Lease(silence.lease)
    outages = Outages(read_clocks, emit)
    outages.began(Service.PUBLISHER, NOT_YET, quiet=True)
    budget = ChannelBudget(reactor.seconds)
    publisher = _publisher(reactor, config, lease, outages, budget)
    manager = _manager(reactor, config, give_up, silence, lease, publisher, meter, outages, budget)
    reloader.follow(lambda found: manager.change(_policy(found, meter)))
    if not isinstance(meter, Meter):
        return manager
    journal = Journal(meter)
    view = View(
        manager,
        read_clocks,
        meter,
        journal,
        outages,
        stuck=2 * config.silence_limit,
        actions=config.http.token is not None,
    )
    services: list[Any] = [Following(journal)]  # first, so that nothing that the manager logs is missed
    if config.http.endpoint:
        services.append(StatusServer(reactor, config.http, view, give_up))
    services.append(manager)
    if notifier:
        services.append(Supervised(reactor, notifier, view))
    whole = MultiService()  # type: ignore[no-untyped-call]
    for service in services:
        service.setServiceParent(whole)
    return whole


def _publisher(
    reactor: Any, config: Config, lease: Lease, outages: Outages, budget: ChannelBudget
) -> Publisher:
    events = config.events_exchange if config.events else ""
    tell = _tell(Service.PUBLISHER, outages)
    return Publisher(
        reactor,
        config.amqp,
        on_state=tell,
        on_missing=_tell_missing(outages),
        lease=lease,
        events=events,
        budget=budget,
    )


def _manager(
    reactor: Any,
    config: Config,
    give_up: Callable[[str], None],
    silence: Silence,
    lease: Lease,
    publisher: Publisher,
    meter: IMeter,
    outages: Outages,
    budget: ChannelBudget,
) -> Manager:
    """Create a manager; ``give_up`` is called with a reason if it can never work."""
    topology = Topology(
        config.in_queue,
        config.dead_queue,
        config.rejected_queue,
        config.events_exchange,
        config.bindings,
    )
    return Manager(
        reactor,
        read_clocks,
        Store(
            reactor,
            config.database,
            table_prefix_for(config.env, config.name_prefix),
            lock_name_for(config.env, config.name_prefix),
            lease=lease,
            silence=silence,
        ),
        Consumer(
            reactor,
            config.amqp,
            topology,
            on_state=_tell(Service.CONSUMER, outages),
            on_missing=_tell_missing(outages),
            budget=budget,
        ),
        publisher,
        lambda life: _RESERVATIONS[config.etcd_api](
            reactor,
            Cluster(config.etcd, config.etcd_access),
            config.etcd_base,
            config.name_prefix,
            datetime.now,
            lambda: read_clocks().wall,
            timeout=config.silence_limit / 3,
            lease=lease,
            on_conflict=meter.conflicted,
            owner=Owner(life, gethostname(), max(5, round(2 * config.silence_limit)), emit),
        ),
        _policy(config, meter),
        give_up,
        outages,
    )


def _policy(config: Config, meter: IMeter) -> Policy:
    return Policy(
        limits=Limits(
            missing_interval=config.missing_interval,
            time_limit=config.time_limit,
            dispatch_timeout=config.dispatch_timeout,
            release_grace=config.release_grace,
            patience=config.patience,
            excerpt=config.log.excerpt,
            max_attempts=config.max_attempts,
            hold_unknown=config.unknown_resources is UnknownResources.WAIT,
            forget_after=max(config.history_days, 1.0) * _DAY,
        ),
        queues=Queues(
            config.in_queue.encode(),
            config.dead_queue.encode(),
            config.rejected_queue.encode(),
            frozenset({config.events_exchange, *(exchange for exchange, _ in config.bindings)}),
        ),
        dispatch_interval=config.dispatch_interval,
        read_interval=min(config.dispatch_interval, config.silence_limit / 2),
        message_limit=config.message_limit,
        history=config.history_days * _DAY,
        meter=meter,
    )


_LINES = {
    LinkState.CONNECTED: catalogue.BROKER_CONNECTED,
    LinkState.LOST: catalogue.BROKER_LOST,
    LinkState.WAITING: catalogue.BROKER_WAITING,
    LinkState.BLOCKED: catalogue.BROKER_BLOCKED,
    LinkState.UNBLOCKED: catalogue.BROKER_UNBLOCKED,
    LinkState.CLOSED: catalogue.CHANNEL_CLOSED,
}


def _tell(who: Service, outages: Outages) -> OnState:
    """Return a function that logs the states of a connection to RabbitMQ and records its outages."""

    def tell(state: LinkState, detail: str) -> None:
        if state in _LINES:
            emit(_LINES[state](who.value, detail))
        match state:
            case LinkState.CONNECTED | LinkState.PERMITTED:
                outages.over(who)
            case LinkState.FORBIDDEN:
                outages.began(who, detail)
            case LinkState.LOST | LinkState.WAITING:
                outages.began(who, detail, quiet=True)
            case LinkState.BLOCKED:
                outages.began(Service.BLOCKED, detail, quiet=True)
            case LinkState.UNBLOCKED:
                outages.over(Service.BLOCKED)

    return tell


def _tell_missing(outages: Outages) -> OnMissing:
    """Return a function that records what RabbitMQ refuses and the manager can do without."""

    def tell(what: str, why: str | None) -> None:
        if why is None:
            outages.over(Service.OPTIONAL, about=what)
        else:
            outages.began(Service.OPTIONAL, why, what, quiet=True)

    return tell
