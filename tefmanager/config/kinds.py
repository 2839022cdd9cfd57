"""The kinds of settings: which texts they accept, and how those become values. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

_LABEL = re.compile(r"(?!(?!xn)..--)[a-z0-9]([a-z0-9-]{,61}[a-z0-9])?", re.IGNORECASE)
"""A part of a host name. Twisted looks up none with two hyphens in third place, but for *xn--*."""


T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

SHORTSTR = 255
"""The most bytes in the name of a queue, an exchange or a routing key: AMQP's short string."""

LONGEST_SUFFIX = ".manager.rejected"
"""The longest suffix that is appended to the name prefix."""

ETCD_PORTS = (2379, 4001)
"""Ports tried for Etcd if none is configured: its own, then the one it used before version 2."""


class Environment(StrEnum):
    """The three environments."""

    DEV = "dev"
    TEST = "test"
    PROD = "prod"


class EtcdApi(StrEnum):
    """Which of Etcd's APIs holds the resources."""

    AUTO = "auto"
    """v2 if its base key exists, otherwise v3."""
    V2 = "v2"
    V3 = "v3"


class UnknownResources(StrEnum):
    """How to treat a task that names a resource without an entry in Etcd."""

    ALLOW = "allow"
    """The name limits nothing."""
    WAIT = "wait"
    """The task waits until there is an entry."""


class LogFormat(StrEnum):
    """The format of log lines."""

    TEXT = "text"
    JSON = "json"


class Threshold(StrEnum):
    """The lowest level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """One kind of value.

    Attributes:
        parse: converts a text to the value; raises ValueError, whose text is never shown.
        expected: the accepted values, for people: "a number of seconds above 0".
        sign: the placeholder in an option's help: "SECONDS". Empty for a flag.
    """

    parse: Callable[[str], T]
    expected: str
    sign: str


_SECRETIVE = re.compile(r"@|\w:/|pass(word|wd)?\s*[=:]", re.IGNORECASE)
"""Matches URLs with accounts and libpq's connection strings."""


def shown(text: str, limit: int = 60) -> str:
    """Return a text for an error line: quoted, short, without a password.

    Nothing is shown of a text that may be an account, a URL or a connection string, because it may have
    been cut anywhere. Of "name:text", which may be an account too, only the name is shown.
    """
    if _SECRETIVE.search(text):
        return "'***'"
    open_text = re.sub(r":(?=[^\d\s])\S.*", ":***", text, flags=re.DOTALL)
    return repr(open_text if len(open_text) <= limit else open_text[: limit - 3] + "...")


def shown_name(text: str) -> str:
    """Return the name of a key or a section for an error line; quoted if it is not a proper name."""
    return text if re.fullmatch(r"[\w .-]{1,60}", text) else shown(text)


def shown_path(path: object) -> str:
    """Return a file's path for an error line, unless it would break the line or reveal a secret."""
    text = str(path)
    harmless = text.isprintable() and not _SECRETIVE.search(text)
    return text if harmless else shown(text, 200)


def _silence(text: str) -> float:
    seconds = _seconds(text)
    if seconds < 3:
        raise ValueError
    return seconds


def _seconds(text: str) -> float:
    value = _number(text)
    if value <= 0:
        raise ValueError
    return value


def _number(text: str) -> float:
    if not re.fullmatch(r"[0-9]+(\.[0-9]*)?|\.[0-9]+", text):
        raise ValueError
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise ValueError
    return int(text)


def _positive(text: str) -> int:
    value = _count(text)
    if value == 0:
        raise ValueError
    return value


def _port(text: str) -> int:
    value = _count(text)
    if not 0 < value < 65536:
        raise ValueError
    return value


def _flag(text: str) -> bool:
    words = {"1": True, "yes": True, "true": True, "on": True}
    words |= {"0": False, "no": False, "false": False, "off": False}
    try:
        return words[text.lower()]
    except KeyError:
        raise ValueError from None


def _text(text: str) -> str:
    return text


def _endpoint(text: str) -> str:
    """Check a Twisted endpoint description; empty means none."""
    if text and not re.fullmatch(r"[a-z]\w*:.+", text):
        raise ValueError
    return text


def is_short(name: str, room: int = SHORTSTR) -> bool:
    """Tell whether a name is printable and has 1 to ``room`` bytes of UTF-8."""
    return bool(name) and name.isprintable() and len(name.encode()) <= room


def _name_prefix(text: str) -> str:
    """Accept only what can be part of a queue's name and of a lock key in Etcd."""
    room = SHORTSTR - len(LONGEST_SUFFIX)
    if not is_short(text, room) or text.startswith("amq.") or re.search(r"[\s/~|]", text):
        raise ValueError
    return text


def _queue_name(text: str) -> str:
    if not is_short(text) or text.startswith("amq."):
        raise ValueError
    return text


def _bindings(text: str) -> tuple[tuple[str, str], ...]:
    parts = [part.strip() for part in re.split(r"[,\n]", text)]
    return tuple(dict.fromkeys(_binding(part) for part in parts if part))


def _binding(text: str) -> tuple[str, str]:
    exchange, colon, key = text.partition(":")
    if not colon or not is_short(exchange) or not (key == "" or is_short(key)):
        raise ValueError
    return exchange, key


def is_host(text: str) -> bool:
    """Tell whether a text may be a host: an address, or a name that can be looked up."""
    if ":" in text or not text.isascii():
        return True  # an IPv6 address, or an internationalized name
    return all(_LABEL.fullmatch(label) for label in text.removesuffix(".").split("."))


def _hosts(text: str) -> tuple[tuple[str, int | None], ...]:
    parts = [part.strip() for part in text.split(",")]
    return tuple(dict.fromkeys(_host(part) for part in parts if part))


def _host(text: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([\w.-]+))(?::([0-9]+))?", text)
    if match is None or not is_host(match[1] or match[2]):
        raise ValueError
    port = match[3]
    return match[1] or match[2], None if port is None else _port(port)


def _host_names(text: str) -> tuple[str, ...]:
    names = [part.strip() for part in re.split(r"[,\n]", text)]
    names = [name.strip("[]") if ":" in name else name for name in names if name]
    if not all(re.fullmatch(r"[\w.:%-]+", name) and is_host(name) for name in names):
        raise ValueError
    return tuple(dict.fromkeys(names))


def _choice(choices: type[E], sign: str) -> Kind[E]:
    words = [str(choice) for choice in choices]
    expected = ", ".join(words[:-1]) + " or " + words[-1]
    return Kind(lambda text: choices(text.lower()), expected, sign)


@dataclass(frozen=True, slots=True)
class Setting(Generic[T]):
    """One setting.

    Attributes:
        name: the option without its dashes, and the key in the INI file.
        kind: which texts it accepts.
        default: the text that is used if nobody sets it; empty: no value, or a computed one.
        help: a sentence or two for people, without the default.
        variables: variables in addition to ``TEF_MANAGER_<NAME>``; ``<ENV>`` stands for the environment.
        default_note: describes the default if ``default`` does not.
        option: it may be given on the command line.
        in_file: it may be given in the INI file.
        secret: its text may contain a password and is never shown.
        repeatable: the option may be given several times.
        may_be_empty: an empty text is a value like any other.
    """

    name: str
    kind: Kind[T]
    default: str
    help: str
    variables: tuple[str, ...] = ()
    default_note: str = ""
    option: bool = True
    in_file: bool = True
    secret: bool = False
    repeatable: bool = False
    may_be_empty: bool = False

    def variable_names(self, env: str) -> Iterator[str]:
        """Yield the environment variables that may contain it; the first one that is set counts."""
        yield self.own_variable
        for template in self.variables:
            yield template.replace("<ENV>", env.upper())
            if "<ENV>" in template:
                yield template.replace("<ENV>", env)

    @property
    def own_variable(self) -> str:
        """The variable that only this program reads."""
        return "TEF_MANAGER_" + self.name.upper().replace("-", "_")

    @property
    def default_shown(self) -> str:
        """The default for people."""
        return self.default_note or self.default


TEXT = Kind(_text, "text", "TEXT")
FILE = Kind(_text, "a file", "FILE")
ENDPOINT = Kind(
    _endpoint,
    "where to listen, such as tcp:8090:interface=127.0.0.1 or unix:/run/http, or nothing",
    "ENDPOINT",
)
FOLDER = Kind(_text, "the folder that holds database_<env>.yml", "FOLDER")
ONE_LINE = (TEXT, FILE, FOLDER)
"""Kinds that accept any text without a line break."""
URL = Kind(_text, "amqp://user:password@host:port/vhost", "URL")
SILENCE = Kind(_silence, "a number of seconds, 3 or more", "SECONDS")
SECONDS = Kind(_seconds, "a number of seconds above 0, such as 30 or 0.5", "SECONDS")
DAYS = Kind(_number, "a number of days, 0 or more", "DAYS")
COUNT = Kind(_count, "a whole number, 0 or more", "N")
BYTES = Kind(_positive, "a whole number of bytes above 0", "BYTES")
PORT = Kind(_port, "a port from 1 to 65535", "PORT")
FLAG = Kind(_flag, "yes or no", "")
NAME_PREFIX = Kind(
    _name_prefix,
    f"at most {SHORTSTR - len(LONGEST_SUFFIX)} bytes without white space, '/', '~' or '|',"
    " not beginning with 'amq.'",
    "NAME",
)
QUEUE_NAME = Kind(
    _queue_name, f"at most {SHORTSTR} bytes of printable text, not beginning with 'amq.'", "NAME"
)
BINDINGS = Kind(
    _bindings,
    f"EXCHANGE:KEY, of at most {SHORTSTR} bytes each; several separated by commas",
    "EXCHANGE:KEY",
)
HOSTS = Kind(_hosts, "host or host:port (no URL; IPv6 in brackets); several separated by commas", "HOST")
HOST_NAMES = Kind(_host_names, "names or addresses without a port; several separated by commas", "NAME")
ENVIRONMENT = _choice(Environment, "ENV")
ETCD_API = _choice(EtcdApi, "API")
LOG_FORMAT = _choice(LogFormat, "FORMAT")
LOG_LEVEL = _choice(Threshold, "LEVEL")
UNKNOWN_RESOURCES = _choice(UnknownResources, "WHAT")
