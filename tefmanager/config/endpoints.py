"""Addresses and logins of message brokers, parsed from AMQP URIs, and access to Etcd. Pure values."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import SplitResult, unquote, urlsplit

from tefmanager.config.kinds import is_host, shown
from tefmanager.config.tls_files import TlsFiles

DEFAULT_PORTS = {"amqp": 5672, "amqps": 5671}
"""Registered ports by scheme."""

DEFAULT_HEARTBEAT = 5
"""Seconds between heartbeats if the URI does not say; the broker may ask for less."""

TLS_KEYS = frozenset({"cacertfile", "certfile", "keyfile", "verify", "server_name_indication"})
"""Query keys of an ``amqps`` URI, with the same names as in RabbitMQ's own clients."""

FILE_KEYS = ("cacertfile", "certfile", "keyfile")
"""Those of them that name files."""

VERIFY = ("verify_peer", "verify_none")
"""Allowed values of ``verify``."""

OTHER_KEYS = frozenset({"auth_mechanism", "channel_max", "connection_timeout", "frame_max"})
"""Query keys for other clients; they have no effect here."""

MAX_HEARTBEAT = 65535
"""The longest heartbeat that the protocol can express, in seconds."""

NO_OPTIONS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class AmqpEndpoint:
    """One broker and the account to use there. Neither ``repr`` nor ``str`` shows the password.

    Attributes:
        host: name or address; an IPv6 address without brackets.
        port: TCP port.
        user: account name.
        password: its password.
        vhost: the broker's virtual host.
        heartbeat: seconds; 0 switches heartbeats off.
        tls: whether to use TLS.
        options: further query keys of the URI by name, such as ``cacertfile``.
    """

    host: str = "127.0.0.1"
    port: int = 5672
    user: str = "guest"
    password: str = field(default="guest", repr=False)
    vhost: str = "/"
    heartbeat: int = DEFAULT_HEARTBEAT
    tls: bool = False
    options: Mapping[str, str] = field(default_factory=lambda: NO_OPTIONS, hash=False)

    @property
    def tls_files(self) -> TlsFiles:
        """The files that its options name."""
        get = self.options.get
        return TlsFiles(get("cacertfile"), get("certfile"), get("keyfile"))

    def __str__(self) -> str:
        """Return the address for people: "host:5672, vhost /"."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}, vhost {self.vhost or '(empty)'}"


@dataclass(frozen=True, slots=True)
class EtcdAccess:
    """TLS files and login for Etcd.

    Attributes:
        tls: the files for https; None for http.
        user: the user to log in as; None: no login.
        password: the user's password.
    """

    tls: TlsFiles | None = None
    user: str | None = None
    password: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """User and password in the form of HTTP basic authentication."""
        return b64encode(f"{self.user}:{self.password}".encode()).decode()


def parse_amqp_url(url: str, heartbeat: int = DEFAULT_HEARTBEAT) -> AmqpEndpoint:
    """Return the endpoint of an AMQP URI such as ``amqp://user:pass@host:5672/vhost?heartbeat=10``.

    The rules are those of RabbitMQ's URI specification: user, password, host and vhost are percent-decoded;
    no path at all means vhost ``/``, the path ``/`` means the vhost with the empty name, ``/%2f`` is ``/``.
    ``heartbeat`` is used if the URI names none. Raises `ValueError` with a text for people that never
    contains the password.
    """
    parts, port = _split(url.strip())
    host = unquote(parts.hostname or "") or "127.0.0.1"
    if not is_host(host):
        raise ValueError("its host can't be looked up (a name has letters, digits, hyphens and dots)")
    user, password = _account(parts)
    options = _query(parts.query)
    return AmqpEndpoint(
        host=host,
        port=DEFAULT_PORTS[parts.scheme] if port is None else port,
        user=user,
        password=password,
        vhost=_vhost(parts.path),
        heartbeat=_heartbeat(options.pop("heartbeat", None), heartbeat),
        tls=parts.scheme == "amqps",
        options=MappingProxyType(options),
    )


def _split(url: str) -> tuple[SplitResult, int | None]:
    # The library's errors quote the text that they could not parse: perhaps a part of the password.
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("not a URI: its host can't be read") from None
    if parts.scheme not in DEFAULT_PORTS:
        raise ValueError("an AMQP URI begins with amqp:// or amqps://")
    if "#" in url:
        raise ValueError("a # in an AMQP URI has to be written as %23")
    if "@" in parts.path + parts.query:
        # Most likely a password with an unencoded / or ?: nothing of it may be quoted.
        raise ValueError("write @ as %40, and / and ? in a user name or password as %2f and %3f")
    try:
        port = parts.port
    except ValueError:
        raise ValueError("the port has to be a number from 1 to 65535 (a / in a password is %2f)") from None
    if port == 0:
        raise ValueError("the port has to be a number from 1 to 65535")
    return parts, port


def _account(parts: SplitResult) -> tuple[str, str]:
    if parts.username is None:
        return "guest", "guest"
    return _decoded(parts.username, "user name"), _decoded(parts.password or "", "password")


def _decoded(text: str, what: str) -> str:
    try:
        found = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError(f"the {what} is not UTF-8 once percent-decoded") from None
    if "\0" in found:
        raise ValueError(f"the {what} holds a NUL")
    return found


def _vhost(path: str) -> str:
    if not path:
        return "/"
    if "/" in path[1:]:
        raise ValueError("a / inside the vhost has to be written as %2f")
    vhost = _decoded(path[1:], "vhost")
    if len(vhost.encode()) > 255:
        raise ValueError("a vhost has at most 255 bytes")
    return vhost


def _query(query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        key, _, value = pair.partition("=")
        if key not in TLS_KEYS | OTHER_KEYS | {"heartbeat"}:
            # It may be the rest of a password with an unencoded ?.
            known = ", ".join(sorted(TLS_KEYS | OTHER_KEYS | {"heartbeat"}))
            raise ValueError(f"there is an unknown key after the ?, known are {known}")
        options[key] = _decoded(value, key)
    if options.get("verify", VERIFY[0]) not in VERIFY:
        raise ValueError(f"verify is {shown(options['verify'])}, expected {' or '.join(VERIFY)}")
    return options


def _heartbeat(text: str | None, otherwise: int) -> int:
    if text is None:
        return otherwise
    if not (text.isascii() and text.isdigit()) or int(text) > MAX_HEARTBEAT:
        raise ValueError(f"heartbeat is {shown(text)}, expected whole seconds from 0 to {MAX_HEARTBEAT}")
    return int(text)
