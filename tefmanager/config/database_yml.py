"""Translates ``database_<env>.yml`` from ActiveRecord's keys to libpq's. Pure.

Values are text exactly as written. What YAML would read as a number, a date or a truth value (a password
such as 0123 or ``no``) stays text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

import yaml

from tefmanager.config.kinds import shown, shown_name, shown_path
from tefmanager.config.secrets import Secrets, passwords_in
from tefmanager.config.sources import ConfigError, nearest
from tefmanager.config.tls_files import FileFault, check_ca, check_identity

ADAPTERS = frozenset({"postgresql", "postgres", "postgis"})
"""ActiveRecord's adapters, and schemes of a ``url``, that mean PostgreSQL."""

RENAMED = {"username": "user", "database": "dbname"}
"""ActiveRecord's names for libpq's keywords, where they differ."""

_IGNORED_WORDS = """
adapter advisory_locks allow_concurrency checkout_timeout collation connection_limit ctype
database_cli database_tasks encoding idle_timeout insert_returning keepalive max_age
max_connections migrations_paths min_connections min_messages owner pool pool_jitter
prepared_statements query_cache reaping_frequency reconnect replica schema_cache_path schema_dump
seeds statement_limit statement_timeout strict tablespace template timeout
use_metadata_table variables verify_timeout wait_timeout
"""
IGNORED = frozenset(_IGNORED_WORDS.split())
"""ActiveRecord's keys that only concern its own pool, cache, session or new databases."""

SEARCH_PATH = ("schema_search_path", "schema_order")
"""ActiveRecord's names for the schemas that contain the tables."""

_LIBPQ_WORDS = """
application_name channel_binding client_encoding connect_timeout dbname fallback_application_name
gssdelegation gssencmode gsslib host hostaddr keepalives keepalives_count keepalives_idle
keepalives_interval krbsrvname load_balance_hosts options passfile password port replication
require_auth requirepeer service ssl_max_protocol_version ssl_min_protocol_version
sslcert sslcertmode sslcompression sslcrl sslcrldir sslkey sslmode sslnegotiation sslpassword
sslrootcert sslsni target_session_attrs tcp_user_timeout user
"""
LIBPQ = frozenset(_LIBPQ_WORDS.split())
"""The keywords of libpq 17. An older libpq rejects the newest of them when it connects."""

NUMBERS = frozenset(
    {"connect_timeout", "tcp_user_timeout"} | {word for word in LIBPQ if "keepalives" in word}
)
"""Keywords whose values are whole numbers."""

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
"""Allowed values of ``sslmode``."""


class _Twice(yaml.MarkedYAMLError):
    """A key occurs twice."""


class _TextLoader(yaml.SafeLoader):
    """Reads every plain value as text, except null (``~`` or nothing) and the merge key ``<<``."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Refuse keys that occur twice, before keys of other mappings are merged in."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise _Twice(problem=shown_name(str(key.value)), problem_mark=key.start_mark)
            seen.add(str(key.value))
        super().flatten_mapping(node)


_TextLoader.yaml_implicit_resolvers = {
    first: kept
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    if (kept := [pair for pair in resolvers if pair[0].endswith((":null", ":merge"))])
}


def read_database(path: Path, env: str) -> dict[str, str]:
    """Return libpq's keywords and values from a file, or from its section for the environment.

    Raises `ConfigError`, whose problems name the file and the key, never a value that may be secret.
    """
    name = shown_path(path)
    given = _section(name, _parse(name, _read(name, path)), env)
    texts = {key: value for key, value in given.items() if isinstance(value, str)}
    problems = [f"{shown_name(key)} holds no text, expected one value" for key in given if key not in texts]
    database: dict[str, str] = {}
    if not problems:
        database, problems = _translated(texts)
    if problems:
        secrets = Secrets([*(texts.get(key, "") for key in SECRET), *passwords_in(texts.get("url", ""))])
        raise ConfigError([secrets.hide(f"{name}: {problem}") for problem in problems])
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
        mark = error.problem_mark
        place = f":{mark.line + 1}" if mark else ""
        raise ConfigError([f"{name}{place}: {_yaml_fault(error)}"]) from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError(
            [f"{name}: is not valid YAML: there is a control character, or it is nested too deep"]
        ) from None
    if not isinstance(content, dict):
        raise ConfigError([f"{name}: {_kind(content)}, expected lines such as 'host: 127.0.0.1'"])
    return {str(key).removeprefix(":"): value for key, value in content.items()}


_YAML_FAULTS = {
    "undefined alias": "is not valid YAML: a value begins with *, which means another value that is not"
    " there; expected it in quotes",
    r"character '\t'": "is not valid YAML: there is a tab, expected blanks",
    "another document": "a second document begins here (---), expected one",
    "a constructor for the tag": "is not valid YAML here: a value begins with !, expected it in quotes",
    "mapping values are not allowed": "is not valid YAML: there is one colon too many, or wrong indentation"
    "; expected 'key: value', with a value in quotes that has a colon and a blank in it",
    "unexpected end of stream": "is not valid YAML: a quote is not closed",
    "that cannot start any token": "is not valid YAML: a value begins with a special sign, expected it in"
    " quotes",
}
"""Our texts, by a part of the library's own text. That one may quote a part of the password."""


def _yaml_fault(error: yaml.MarkedYAMLError) -> str:
    if isinstance(error, _Twice):
        return f"{error.problem} occurs a second time, expected once"
    said = error.problem or ""
    known = (text for part, text in _YAML_FAULTS.items() if part in said)
    return next(known, "is not valid YAML (a value with special signs needs quotes)")


def _kind(content: object) -> str:
    if content is None:
        return "holds nothing"
    return "holds a list" if isinstance(content, list) else "holds a text without a key"


def _section(name: str, content: Mapping[str, object], env: str) -> dict[str, object]:
    """Return the keys that have values: from the whole file, or from the environment's section."""
    own = content.get(env)
    known = LIBPQ | IGNORED | set(RENAMED) | set(SEARCH_PATH) | {"url"}
    sections = [key for key, value in content.items() if isinstance(value, dict)]
    if not isinstance(own, dict):
        if sections and not set(content) & known:
            found = ", ".join(map(shown_name, sections))
            raise ConfigError([f"{name}: has no section {env} (found: {found})"])
        own = dict(content)
    named = {str(key).removeprefix(":"): value for key, value in own.items()}
    empty = [key for key in NEEDED if named.get(key) == ""]
    if empty:
        raise ConfigError([f"{name}: {key} is empty, expected {NEEDED[key]}" for key in empty])
    return {key: value for key, value in named.items() if key not in IGNORED - {"adapter"} and value}


NEEDED = {
    "host": "a name, an address or the folder of a socket; or no such line, for this machine's socket",
    "hostaddr": "an address, or no such line",
    "port": "a port, or no such line, for 5432",
    "database": "the database's name",
}
"""Keys that may be left out but not be empty: somebody meant to fill them in."""

SECRET = ("password", "sslpassword")
"""Keys whose values must never be shown."""


def _translated(given: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return libpq's keywords with their values, and the problems. A ``url`` takes precedence."""
    try:
        in_url = _url(given.get("url", ""))
    except ValueError as error:
        return {}, [f"url: {error}"]
    others = {key: value for key, value in given.items() if key != "url"}
    problems = [f"url: {fault}" for fault in _faults_in_url(in_url)]
    problems += _faults({key: value for key, value in others.items() if key not in in_url})
    merged = _with_search_path({**others, **in_url})
    database = {RENAMED.get(key, key): value for key, value in merged.items() if key not in IGNORED}
    if not problems and not {"dbname", "service"} & set(database):
        problems.append("database is missing, expected the database's name")
    problems.extend(list_faults(database))
    if database.get("sslmode") != "disable":
        problems.extend(_file_faults(database))
    return database, problems


def _with_search_path(given: Mapping[str, str]) -> dict[str, str]:
    """Return libpq's keywords, with ActiveRecord's ``schema_search_path`` translated as well."""
    paths = [given[key] for key in SEARCH_PATH if key in given]
    others = {key: value for key, value in given.items() if key not in SEARCH_PATH}
    if paths:
        escaped = re.sub(r"([\\\s])", r"\\\1", paths[0])
        others["options"] = f"{others.get('options', '')} -csearch_path={escaped}".strip()
    return others


def list_faults(database: Mapping[str, str]) -> Iterator[str]:
    """Yield the problems of host lists: each host needs its own address and port, or all share one."""
    hosts = max(len(database.get(key, "").split(",")) for key in ("host", "hostaddr"))
    for key in ("host", "hostaddr", "port"):
        values = len(database.get(key, "").split(","))
        if values not in (1, hosts):
            yield f"{key} names {values}, expected one, or as many as there are hosts ({hosts})"


def _file_faults(database: Mapping[str, str]) -> Iterator[str]:
    """Yield the problems of TLS files; libpq would silently ignore files that do not exist."""
    ca, cert, key = (database.get(name) for name in ("sslrootcert", "sslcert", "sslkey"))
    try:
        if ca is not None and ca != "system":
            check_ca(ca)
    except FileFault as fault:
        yield f"sslrootcert: {fault}"
    try:
        # Without a file name, libpq looks in the user's folder; a key with a colon is not a file.
        if cert is not None and key is not None and ":" not in key:
            check_identity(cert, key, database.get("sslpassword"))
        elif cert is not None:
            check_ca(cert)
    except FileFault as fault:
        yield f"{'sslkey' if fault.path == key else 'sslcert'}: {fault}"


def _faults(given: Mapping[str, str]) -> Iterator[str]:
    for one, other in [*RENAMED.items(), SEARCH_PATH]:
        if one in given and other in given:
            yield f"{one} and {other} are the same setting, expected one of them"
    for key, value in given.items():
        keyword = RENAMED.get(key, key)
        if key == "adapter" and value not in ADAPTERS:
            yield f"adapter is {shown(value)}, expected postgresql: no other database is supported"
        elif keyword not in LIBPQ | IGNORED | set(SEARCH_PATH):
            yield f"unknown key {shown_name(key)}{nearest(key, LIBPQ | IGNORED | set(RENAMED))}"
        elif fault := _unsafe(value):
            yield f"{key} {fault}"
        elif fault := wrong_value(keyword, value):
            yield f"{key} is {shown(value)}, expected {fault}"


def _faults_in_url(said: Mapping[str, str]) -> Iterator[str]:
    """Yield the problems of a URL, not quoting its parts: an unencoded / or ? may have cut a password."""
    for key, value in said.items():
        keyword = RENAMED.get(key, key)
        if keyword not in LIBPQ | IGNORED:
            hint = nearest(key, LIBPQ | IGNORED | set(RENAMED))
            yield f"there is an unknown key after the ?{hint}; {_ENCODED}"
        elif fault := _unsafe(value):
            yield f"its {keyword} {fault}"
        elif fault := wrong_value(keyword, value):
            yield f"its {keyword} can't be read, expected {fault}; {_ENCODED}"


_ENCODED = "in a user name or password, / is written as %2F, ? as %3F, # as %23, @ as %40"


def _unsafe(value: str) -> str | None:
    if "\0" in value:
        return "holds a NUL, expected text"
    if re.search("[\ud800-\udfff]", value):
        return "holds half of a character (\\ud800 to \\udfff), expected text"
    return None


def wrong_value(keyword: str, value: str) -> str | None:
    """Return what was expected if libpq would always reject a value, otherwise None."""
    if keyword in ("host", "hostaddr", "dbname") and _is_connection(value):
        return "a name alone; a URL goes into url, user and password into username and password"
    if keyword == "port" and not all(_is_port(port) for port in value.split(",")):
        return "a port from 1 to 65535"
    if keyword == "sslmode" and value not in SSL_MODES:
        return "one of " + ", ".join(SSL_MODES)
    if keyword in NUMBERS and not re.fullmatch(r"-?[0-9]+", value):
        return "a whole number"
    return None


def _is_connection(text: str) -> bool:
    """Tell whether a value may be a URL, an account or a connection string, and so contain a password."""
    return re.search(r"\w:/|.@|\bpass(word|wd)?\s*=", text, re.IGNORECASE) is not None


def _is_port(text: str) -> bool:
    # In a list of ports, an empty one means the default.
    return text == "" or (re.fullmatch(r"[0-9]{1,5}", text) is not None and 0 < int(text) < 65536)


def _url(url: str) -> dict[str, str]:
    """Return what a ``postgresql://`` URL says, by libpq's and ActiveRecord's keys; empty without a URL."""
    if not url:
        return {}
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ADAPTERS:
        found = shown(scheme) if separator else "no URL"
        raise ValueError(f"is {found}, expected postgresql://user:password@host:port/database")
    rest, _, query = rest.partition("?")
    authority, _, dbname = rest.partition("/")
    if "@" in dbname + query:
        # Most likely a password with an unencoded / or ?.
        raise ValueError(f"there is an @ behind the host; {_ENCODED}")
    account, at, hosts = authority.rpartition("@")
    user, colon, password = account.partition(":")
    said = {"dbname": dbname, "user": user if at else "", "password": password if colon else ""}
    said |= _hosts(hosts) | _query(query)
    return {key: _decoded(value) for key, value in said.items() if value}


def _hosts(hosts: str) -> dict[str, str]:
    """Split "host:port,[::1]" into libpq's lists of hosts and ports, each joined by commas."""
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
