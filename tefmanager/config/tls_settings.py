"""Checks the settings for TLS and login: files exist and fit together, accounts are complete. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tefmanager.config import settings
from tefmanager.config.endpoints import FILE_KEYS, AmqpEndpoint, EtcdAccess
from tefmanager.config.settings import Setting
from tefmanager.config.sources import Found, Sources
from tefmanager.config.tls_files import FileFault, TlsFiles, check_ca, check_identity


@dataclass(frozen=True, slots=True)
class _Given:
    """Files, and the setting that named each of them."""

    files: TlsFiles
    ca: str
    cert: str
    key: str

    def faults(self) -> Iterator[str]:
        """Yield what is wrong with them, each with the setting that names the file."""
        ca, cert, key = self.files.ca, self.files.cert, self.files.key
        if ca is not None:
            yield from _fault(lambda: check_ca(ca), self.ca)
        if cert is not None:
            other = {} if key is None or key == cert else {key: self.key}
            yield from _fault(lambda: check_identity(cert, key), self.cert, **other)


def _fault(check: Callable[[], None], where: str, **others: str) -> Iterator[str]:
    """Yield the fault that a check finds; ``others`` name the settings of other files than the first."""
    try:
        check()
    except FileFault as fault:
        yield f"{others.get(fault.path, where)}: {fault}"


def with_tls(
    sources: Sources, endpoints: Sequence[AmqpEndpoint], url_where: str
) -> tuple[AmqpEndpoint, ...]:
    """Return the brokers with the files that settings name for them; files in URLs are checked, too."""
    given = _given(sources, settings.AMQP_CA, settings.AMQP_CERT, settings.AMQP_KEY)
    named = _first_found(sources, settings.AMQP_CA, settings.AMQP_CERT)
    if named is not None and not any(endpoint.tls for endpoint in endpoints):
        sources.problems.append(f"{named.where} is set, but {url_where} names no broker with amqps://")
    _check_all_alike(sources, endpoints, named, url_where)
    if any(endpoint.options.get("verify") == "verify_none" for endpoint in endpoints if endpoint.tls):
        sources.warnings.append(
            f"{url_where} has verify=verify_none: anybody in between can read and change everything"
        )
    made = tuple(_with_files(endpoint, given.files) if endpoint.tls else endpoint for endpoint in endpoints)
    faults = [fault for endpoint in made for fault in _faults(endpoint, given, url_where)]
    sources.problems.extend(dict.fromkeys(faults))
    return made


def _check_all_alike(
    sources: Sources, endpoints: Sequence[AmqpEndpoint], named: Found | None, url_where: str
) -> None:
    """A list with and without TLS ends up in the clear when the right broker is away."""
    if len({endpoint.tls for endpoint in endpoints}) == 1:
        return
    mixed = f"{url_where} names brokers with amqps:// and with amqp://, where everybody can read along"
    if named is not None or any(endpoint.tls_files != TlsFiles() for endpoint in endpoints):
        sources.problems.append(f"{mixed}; expected amqps:// for all, as there is a certificate")
    else:
        sources.warnings.append(mixed)


def _with_files(endpoint: AmqpEndpoint, files: TlsFiles) -> AmqpEndpoint:
    # Absolute, like all others: they are read again for each connection.
    paths = {key: endpoint.options[key] for key in FILE_KEYS if key in endpoint.options}
    options = {**endpoint.options, **{key: str(Path(path).absolute()) for key, path in paths.items()}}
    if files.ca is not None:
        options["cacertfile"] = files.ca
    if files.cert is not None:
        options |= {"certfile": files.cert, "keyfile": files.key or files.cert}
    return replace(endpoint, options=MappingProxyType(options))


def _faults(endpoint: AmqpEndpoint, given: _Given, url_where: str) -> Iterator[str]:
    own, all_of_it = given.files, endpoint.tls_files
    if all_of_it.key is not None and all_of_it.cert is None:
        yield f"{url_where}: keyfile needs certfile"
    elif endpoint.tls:
        yield from _Given(
            all_of_it,
            given.ca if own.ca else f"{url_where}: cacertfile",
            given.cert if own.cert else f"{url_where}: certfile",
            given.key if own.cert else f"{url_where}: keyfile",
        ).faults()


def etcd_access(sources: Sources) -> EtcdAccess:
    """Return TLS files and login for Etcd."""
    given = _given(sources, settings.ETCD_CA, settings.ETCD_CERT, settings.ETCD_KEY)
    sources.problems.extend(given.faults())
    named = _first_found(sources, settings.ETCD_CA, settings.ETCD_CERT)
    wanted = sources.optional(settings.ETCD_TLS)
    if wanted is False and named is not None:
        where = _where(sources, settings.ETCD_TLS)
        sources.problems.append(f"{named.where} is set, but {where} says that Etcd is reached without TLS")
    secure = named is not None or wanted
    user, password = _account(sources)
    return EtcdAccess(given.files if secure else None, user, password)


def _account(sources: Sources) -> tuple[str | None, str]:
    user, password = sources.optional(settings.ETCD_USER), sources.optional(settings.ETCD_PASSWORD)
    where = _where(sources, settings.ETCD_USER), _where(sources, settings.ETCD_PASSWORD)
    if (user is None) != (password is None):
        missing, there = where if user is None else where[::-1]
        sources.problems.append(f"{missing} is not set, but {there} is")
    elif user is not None and ":" in user:
        sources.problems.append(f"{where[0]} has a colon in it, which no user's name can have")
    return user, password or ""


def _given(sources: Sources, ca: Setting[str], cert: Setting[str], key: Setting[str]) -> _Given:
    files = TlsFiles(_file(sources, ca), _file(sources, cert), _file(sources, key))
    where = [_where(sources, each) for each in (ca, cert, key)]
    if files.key is not None and files.cert is None:
        sources.problems.append(f"{where[1]} is not set, but {where[2]} is")
    return _Given(files, *where)


def _file(sources: Sources, setting: Setting[str]) -> str | None:
    # Absolute: the files are read again for each connection, and a daemon may have changed its folder.
    text = sources.optional(setting)
    return None if text is None else str(Path(text).absolute())


def _first_found(sources: Sources, *several: Setting[str]) -> Found | None:
    return next((found for each in several if (found := sources.find(each)) is not None), None)


def _where(sources: Sources, setting: Setting[Any]) -> str:
    found = sources.find(setting)
    return list(setting.variable_names(sources.env))[1] if found is None else found.where
