"""``database_<env>.yml``: ActiveRecord's keys, made into libpq's. Pure.

Values are text just as it is written: what YAML takes for a number, a date or a truth value (a password
such as 0123 or ``no``) is none here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

import yaml

from tefmanager.config_sources import ConfigError, nearest
from tefmanager.kinds import shown, shown_path
from tefmanager.tls_files import FileFault, check_ca, check_identity

ADAPTERS = frozenset({"postgresql", "postgres", "postgis"})
"""ActiveRecord's adapters, and schemes of a ``url``, that mean PostgreSQL."""

RENAMED = {"username": "user", "database": "dbname"}
"""ActiveRecord's names of libpq's keywords, where they differ."""

_IGNORED_WORDS = """
adapter advisory_locks checkout_timeout database_tasks encoding idle_timeout insert_returning
max_connections migrations_paths min_connections min_messages pool prepared_statements
reaping_frequency reconnect replica schema_cache_path statement_limit timeout
"""
IGNORED = frozenset(_IGNORED_WORDS.split())
"""ActiveRecord's keys that concern its own pool, cache or session, and nothing here."""

_LIBPQ_WORDS = """
application_name channel_binding client_encoding connect_timeout dbname fallback_application_name
gssdelegation gssencmode gsslib host hostaddr keepalives keepalives_count keepalives_idle
keepalives_interval krbsrvname load_balance_hosts options passfile password port replication
require_auth requirepeer service ssl_max_protocol_version ssl_min_protocol_version
sslcert sslcertmode sslcompression sslcrl sslcrldir sslkey sslmode sslnegotiation sslpassword
sslrootcert sslsni target_session_attrs tcp_user_timeout user
"""
LIBPQ = frozenset(_LIBPQ_WORDS.split())
"""The keywords of libpq 17; an older one refuses the newest of them when it connects."""

NUMBERS = frozenset(
    {"connect_timeout", "tcp_user_timeout"} | {word for word in LIBPQ if "keepalives" in word}
)
"""Keywords whose values are whole numbers."""

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
"""What ``sslmode`` may be."""


class _TextLoader(yaml.SafeLoader):
    """Reads every plain value as text, but for null (``~`` or nothing) and the merge key ``<<``."""


_TextLoader.yaml_implicit_resolvers = {
    first: kept
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    if (kept := [pair for pair in resolvers if pair[0].endswith((":null", ":merge"))])
}


def read_database(path: Path, env: str) -> dict[str, str]:
    """Return libpq's keywords and values from a file, or from its section named as the environment.

    Raises `ConfigError`, whose problems name the file and the key, never a value that may be secret.
    """
    name = shown_path(path)
    given = _section(name, _parse(name, _read(name, path)), env)
    wrong = [key for key, value in given.items() if not isinstance(value, str)]
    if wrong:
        raise ConfigError([f"{name}: {_key(key)} holds no text, expected one value" for key in wrong])
    database, problems = _translated({key: str(value) for key, value in given.items()})
    if problems:
        raise ConfigError([f"{name}: {problem}" for problem in problems])
    return database


def _read(name: str, path: Path) -> str:
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError([f"{name} does not exist, expected it to say how to reach PostgreSQL"]) from None
    except OSError as error:
        raise ConfigError([f"{name} can't be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{name} is not UTF-8"]) from None
    for number, line in enumerate(text.splitlines(), 1):
        if "<%" in line and not line.lstrip().startswith("#"):
            raise ConfigError([f"{name}:{number}: has an ERB tag (<%), expected plain YAML"])
    return text


def _parse(name: str, text: str) -> Mapping[str, object]:
    try:
        content = yaml.load(text, Loader=_TextLoader)
    except yaml.MarkedYAMLError as error:
        # The library's own text may quote a part of the password.
        mark = error.problem_mark
        place = f":{mark.line + 1}" if mark else ""
        raise ConfigError(
            [f"{name}{place}: is not valid YAML (a value with special signs needs quotes)"]
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError([f"{name}: is not valid YAML"]) from None
    if not isinstance(content, dict):
        raise ConfigError([f"{name}: expected lines such as 'host: 127.0.0.1'"])
    return {str(key): value for key, value in content.items()}


def _section(name: str, content: Mapping[str, object], env: str) -> dict[str, object]:
    """Return the keys that have values: all of the file, or those of the environment's section."""
    own = content.get(env)
    sections = [key for key, value in content.items() if isinstance(value, dict)]
    if not isinstance(own, dict):
        if sections and not set(content) & (LIBPQ | IGNORED | set(RENAMED) | {"url"}):
            found = ", ".join(_key(key) for key in sections)
            raise ConfigError([f"{name}: has no section {env} (found: {found})"])
        own = dict(content)
    return {str(key): value for key, value in own.items() if value is not None and value != ""}


def _key(key: str) -> str:
    return key if key.isprintable() else shown(key)


def _translated(given: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return libpq's keywords with their values, and what is wrong. What a ``url`` says goes first."""
    problems: list[str] = []
    url = given.get("url", "")
    try:
        merged = {**given, **(_url(url) if url else {})}
    except ValueError as error:
        return {}, [f"url: {error}"]
    merged.pop("url", None)
    problems.extend(_faults(merged))
    database = {RENAMED.get(key, key): value for key, value in merged.items() if key not in IGNORED}
    if not problems and not {"dbname", "service"} & set(database):
        problems.append("database is missing, expected the database's name")
    problems.extend(_list_faults(database))
    if database.get("sslmode") != "disable":
        problems.extend(_file_faults(database))
    return database, problems


def _list_faults(database: Mapping[str, str]) -> Iterator[str]:
    """Yield what is wrong with lists of hosts: each has an address and a port, or all have one."""
    hosts = max(len(database.get(key, "").split(",")) for key in ("host", "hostaddr"))
    for key in ("host", "hostaddr", "port"):
        values = len(database.get(key, "").split(","))
        if values not in (1, hosts):
            yield f"{key} names {values}, expected one, or as many as there are hosts ({hosts})"


def _file_faults(database: Mapping[str, str]) -> Iterator[str]:
    """Yield what is wrong with the files for TLS; libpq would go on without those that are not there."""
    ca, cert, key = (database.get(name) for name in ("sslrootcert", "sslcert", "sslkey"))
    try:
        if ca is not None and ca != "system":
            check_ca(ca)
    except FileFault as fault:
        yield f"sslrootcert: {fault}"
    try:
        # Without a file, libpq looks for it in the user's folder; with a colon, the key is no file.
        if cert is not None and key is not None and ":" not in key:
            check_identity(cert, key, database.get("sslpassword"))
        elif cert is not None:
            check_ca(cert)
    except FileFault as fault:
        yield f"{'sslkey' if fault.path == key else 'sslcert'}: {fault}"


def _faults(given: Mapping[str, str]) -> Iterator[str]:
    for key, value in given.items():
        keyword = RENAMED.get(key, key)
        if key == "adapter" and value not in ADAPTERS:
            yield f"adapter is {shown(value)}, expected postgresql: no other database is supported"
        elif keyword not in LIBPQ | IGNORED:
            yield f"unknown key {_key(key)}{nearest(key, LIBPQ | IGNORED | set(RENAMED))}"
        elif "\0" in value:
            yield f"{key} holds a NUL"
        elif fault := _wrong_value(keyword, value):
            yield f"{key} is {shown(value)}, expected {fault}"


def _wrong_value(keyword: str, value: str) -> str | None:
    """Return what was expected where a value is one that libpq would refuse again and again."""
    if keyword == "port" and not all(_is_port(port) for port in value.split(",")):
        return "a port from 1 to 65535"
    if keyword == "sslmode" and value not in SSL_MODES:
        return "one of " + ", ".join(SSL_MODES)
    if keyword in NUMBERS and not re.fullmatch(r"-?[0-9]+", value):
        return "a whole number"
    return None


def _is_port(text: str) -> bool:
    # Several hosts may have an empty port among theirs: the default.
    return text == "" or (re.fullmatch(r"[0-9]{1,5}", text) is not None and 0 < int(text) < 65536)


def _url(url: str) -> dict[str, str]:
    """Return what a ``postgresql://`` URL says, by libpq's and ActiveRecord's keys."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ADAPTERS:
        found = shown(scheme) if separator else "no URL"
        raise ValueError(f"is {found}, expected postgresql://user:password@host:port/database")
    rest, _, query = rest.partition("?")
    authority, _, dbname = rest.partition("/")
    account, at, hosts = authority.rpartition("@")
    user, colon, password = account.partition(":")
    said = {"dbname": dbname, "user": user if at else "", "password": password if colon else ""}
    said |= _hosts(hosts) | _query(query)
    return {key: _decoded(value) for key, value in said.items() if value}


def _hosts(hosts: str) -> dict[str, str]:
    """Split "host:port,[::1]" as libpq wants it: the hosts and the ports, each joined by commas."""
    matches = [re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(?::([^:]*))?", each) for each in hosts.split(",")]
    found = [match for match in matches if match]
    if len(found) != len(matches):
        raise ValueError("its host can't be read (an IPv6 address needs brackets)")
    ports = [match[2] or "" for match in found]
    host = ",".join(match[1].strip("[]") for match in found)
    return {"host": host, "port": ",".join(ports) if any(ports) else ""}


def _query(query: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in query.split("&") if part)
    return {RENAMED.get(key, key): value for key, _, value in pairs}


def _decoded(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 once percent-decoded") from None
