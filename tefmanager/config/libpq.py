"""Finds out which of libpq's environment variables have an effect beside ``database_<env>.yml``. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from tefmanager.config.database_yml import list_faults, wrong_value
from tefmanager.config.kinds import shown
from tefmanager.config.sources import ConfigError

_VARIABLES = """
PGAPPNAME=application_name PGCHANNELBINDING=channel_binding PGCONNECT_TIMEOUT=connect_timeout
PGDATABASE=dbname PGGSSENCMODE=gssencmode PGGSSLIB=gsslib PGHOST=host PGHOSTADDR=hostaddr
PGKRBSRVNAME=krbsrvname PGLOADBALANCEHOSTS=load_balance_hosts PGOPTIONS=options PGPASSFILE=passfile
PGPASSWORD=password PGPORT=port PGREQUIREAUTH=require_auth PGREQUIREPEER=requirepeer
PGSERVICE=service PGSSLCERT=sslcert PGSSLCERTMODE=sslcertmode PGSSLCRL=sslcrl
PGSSLCRLDIR=sslcrldir PGSSLKEY=sslkey PGSSLMAXPROTOCOLVERSION=ssl_max_protocol_version
PGSSLMINPROTOCOLVERSION=ssl_min_protocol_version PGSSLMODE=sslmode PGSSLROOTCERT=sslrootcert
PGSSLSNI=sslsni PGTARGETSESSIONATTRS=target_session_attrs PGUSER=user
"""
VARIABLES = dict(pair.split("=") for pair in _VARIABLES.split())
"""libpq's variables, each with the keyword that it stands for."""

PLACE = {"PGHOST": "host", "PGHOSTADDR": "hostaddr", "PGPORT": "port"}
"""Those that say where the database is."""


_FILES = ("passfile", "sslcert", "sslcrl", "sslcrldir", "sslkey", "sslrootcert")
"""Keywords that name files."""


def with_whole_paths(database: Mapping[str, str]) -> dict[str, str]:
    """Return libpq's keywords with absolute file paths: a daemon may change its folder."""

    def whole(keyword: str, value: str) -> str:
        named = keyword in _FILES and value != "system" and ":" not in value
        return str(Path(value).absolute()) if named else value

    return {keyword: whole(keyword, value) for keyword, value in database.items()}


def variables_of_libpq(database: Mapping[str, str], environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the libpq variables that have an effect because the file does not set their keywords."""
    for variable, keyword in VARIABLES.items():
        if environ.get(variable) and keyword not in _said(database):
            yield f"{variable} is used for PostgreSQL: it is set, and the database's file has no {keyword}"


def with_place(database: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return libpq's keywords including the database's address, even if only variables contain it.

    Raises `ConfigError`.
    """
    said = _said(database)
    place = {keyword: environ.get(name, "") for name, keyword in PLACE.items() if keyword not in said}
    whole = {**database, **{keyword: value for keyword, value in place.items() if value}}
    faults = [
        f"{name} is {shown(environ[name])}, expected {fault}"
        for name, keyword in PLACE.items()
        if place.get(keyword) and (fault := wrong_value(keyword, place[keyword]))
    ]
    if whole != database and not faults:
        faults = [f"{' and '.join(PLACE)} with the file: {fault}" for fault in list_faults(whole)]
    if faults:
        raise ConfigError(faults)
    return whole


def _said(database: Mapping[str, str]) -> set[str]:
    """Return the keywords that variables do not change: with a host, no variable for an address counts."""
    # The file of a libpq service may set any keyword.
    of_service = set(VARIABLES.values()) if "service" in database else set()
    return {*database, *of_service, *({"hostaddr"} if "host" in database else ())}
