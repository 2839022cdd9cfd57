"""Secrets: whatever is wrong with one, or said by who repeats it, no part of it leaves the process."""

from __future__ import annotations

import json
import os
from base64 import b64encode
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from tefmanager.config.config import Config, ConfigError, config_from
from tefmanager.config.secrets import HIDDEN, KNOWN, Secrets
from tefmanager.interfaces.etcd import ReservationsLost
from tefmanager.interfaces.store import StoreLost
from tefmanager.logfile.emit import emit
from tefmanager.logfile.forms import TextForm
from tefmanager.logfile.observer import line_of
from tefmanager.protocol import catalogue

hostile = st.text(st.sampled_from("QXZJKVW0179/?#@:%,;&=+ []'\"\\$*!|{}é\u20ac"), min_size=4, max_size=30)
"""Secrets of characters that cut URLs, YAML and libpq's strings, and of letters found in no message."""

PART = 4
"""Characters in a row that would be too much."""


def parts(secret: str) -> Iterator[str]:
    """Yield all parts of a secret that may not be seen; what punctuation is in it tells nothing."""
    for start in range(len(secret) - PART + 1):
        part = secret[start : start + PART]
        if part.isalnum():
            yield part


def assert_unseen(secret: str, *texts: str) -> None:
    """See that no part of a secret is in any text."""
    for text in texts:
        assert [part for part in parts(secret) if part in text] == []


# --- what is wrong with the configuration ---

PLACES = {
    "AMQP URL": {"TEF_AMQP_URL_DEV": "amqp://bob:{}@rabbit/v"},
    "AMQP URL without host": {"TEF_AMQP_URL_DEV": "amqp://bob:{}@"},
    "AMQP URL's query": {"TEF_AMQP_URL_DEV": "amqp://bob:x@rabbit/v?{}"},
    "not AMQP": {"TEF_AMQP_URL_DEV": "http://bob:{}@rabbit"},
    "several": {"TEF_AMQP_URL_DEV": "amqp://bob:{0}@rabbit,amqp://bob:{0}@hare"},
    "without scheme": {"TEF_AMQP_URL_DEV": "bob:{}@rabbit"},
    "Etcd's host": {"TEF_ETCD_HOST_DEV": "http://root:{}@etcd:2379"},
    "Etcd's port": {"TEF_ETCD_PORT_DEV": "http://root:{}@etcd:2379"},
    "the folder": {"TEF_MANAGER_DB_CONFIG": "postgres://bob:{}@h/d"},
    "a time": {"TEF_MANAGER_TIME_LIMIT": "amqp://bob:{}@rabbit"},
    "the environment": {"TEF_ENV": "amqp://bob:{}@rabbit"},
    "the prefix": {"TEF_MANAGER_NAME_PREFIX": "amqp://bob:{}@rabbit"},
    "Etcd's user": {"TEF_ETCD_PASSWORD_DEV": "{}"},
    "half of it not UTF-8": {"TEF_ETCD_PASSWORD_DEV": "{}\udcff", "TEF_ETCD_USER_DEV": "root"},
    "AMQP's not UTF-8": {"TEF_AMQP_PASSWORD_DEV": "{}\udcff"},
    "the URL not UTF-8": {"TEF_AMQP_URL_DEV": "amqp://bob:{}\udcff@rabbit"},
}


@settings(max_examples=150)
@given(st.sampled_from(sorted(PLACES)), hostile)
def test_variables(tmp_path_factory: pytest.TempPathFactory, place: str, secret: str) -> None:
    """However it is put into variables that can't be used, nothing of it is told."""
    folder = tmp_path_factory.getbasetemp()
    (folder / "database_dev.yml").write_text("database: d\n")
    good = {"TEF_AMQP_URL_DEV": "amqp://rabbit", "TEF_MANAGER_DB_CONFIG": str(folder)}
    given_texts = {name: text.format(secret) for name, text in PLACES[place].items()}
    assert_unseen(secret, told({**good, **given_texts}))


YML = {
    "url": "url: {}",
    "host": "database: d\nhost: {}",
    "hostaddr": "database: d\nhostaddr: {}",
    "database": "database: {}",
    "port": "database: d\nport: {}",
    "sslmode": "database: d\nsslmode: {}",
    "adapter": "database: d\nadapter: {}",
    "key": "database: d\n{}: x",
    "section": "{}:\n  database: d",
    "list": "database: d\npassword: [{}]",
    "certificate": "database: d\nsslrootcert: {}",
}
FORMS = [
    "postgresql://bob:{}@h:1/d",
    "postgres://bob:{}@h",
    "mysql2://bob:{}@h/d",
    "postgres://h/d?password={}&x=y",
]


@settings(max_examples=150)
@given(st.sampled_from([*YML, "alone"]), st.sampled_from(FORMS), st.booleans(), hostile)
def test_database_file(
    tmp_path_factory: pytest.TempPathFactory, text: str, form: str, quoted: bool, secret: str
) -> None:
    """A URL at the wrong place in the file, or badly encoded, is not quoted, nor is a part of it."""
    folder = tmp_path_factory.getbasetemp()
    url = form.format(secret)
    value = json.dumps(url) if quoted else url
    (folder / "database_dev.yml").write_text(YML.get(text, "{}").format(value))
    assert_unseen(secret, told({"TEF_AMQP_URL_DEV": "amqp://rabbit", "TEF_MANAGER_DB_CONFIG": str(folder)}))


def told(environ: dict[str, str]) -> str:
    """Return what is wrong; or, where nothing is, all that is shown of the configuration."""
    try:
        config = config_from({}, environ)
    except ConfigError as error:
        return f"{error} {error!r}"
    shown = {key: value for key, value in config.database.items() if key not in ("password", "dbname")}
    return f"{config!r} {config.amqp!r} {[str(endpoint) for endpoint in config.amqp]} {shown}"


# --- what others say ---


@given(hostile, st.text(), st.text())
def test_every_form_is_hidden(secret: str, before: str, after: str) -> None:
    """As it is, encoded for a URL, escaped by JSON or Python, and as HTTP's authentication has it."""
    hide = Secrets([secret]).hide
    basic = b64encode(secret.encode()).decode().rstrip("=")
    for form in (secret, quote(secret, safe=""), quote(secret), json.dumps(secret), repr(secret), basic):
        assert_unseen(secret, hide(f"{before}\n{form}\n{after}"))
        assert form not in hide(f"\n{form}\n") or form in (HIDDEN, '"***"')


@pytest.mark.parametrize("secret", ["", "guest"])
def test_what_is_no_secret(secret: str) -> None:
    """Nothing, and RabbitMQ's own guest, are left in texts."""
    assert Secrets([secret]).hide("user guest was refused") == "user guest was refused"


def test_a_short_secret_is_a_word() -> None:
    """A password of three letters is not looked for within words."""
    assert Secrets(["tef"]).hide("tef: user tef of tefmanager") == "***: user *** of tefmanager"


def test_config_knows_its_secrets() -> None:
    """All of them, also as they go over the wire."""
    environ = {
        "TEF_AMQP_URL_DEV": "amqp://bob:am%2Fqp@rabbit",
        "TEF_ETCD_USER_DEV": "root",
        "TEF_ETCD_PASSWORD_DEV": "et/cd",
    }
    config = config_from({}, environ, database=False)
    basic = b64encode(b"root:et/cd").decode()
    assert [secret for secret in config.secrets if secret] == ["am/qp", "et/cd", basic]
    assert [each for each in Config(env="dev", name_prefix="p", in_queue="q").secrets if each] == []


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    """A secret that this process knows."""
    made = "qk" + os.urandom(8).hex()
    monkeypatch.setattr(KNOWN, "_known", set())
    monkeypatch.setattr(KNOWN, "_wanted", None)
    KNOWN.learn([made])
    return made


@pytest.mark.parametrize("kind", [StoreLost, ReservationsLost])
def test_errors_of_services(secret: str, kind: type[Exception]) -> None:
    """Their texts are harmless from the beginning, wherever they go."""
    assert str(kind(f"FATAL: no such {secret}")) == "FATAL: no such ***"


def test_lines_and_tracebacks(secret: str) -> None:
    """What is logged by event or with a traceback, as every observer gets it."""
    events: list[LogEvent] = []

    @implementer(ILogObserver)
    def observer(event: LogEvent) -> None:
        events.append(event)

    globalLogPublisher.addObserver(observer)
    try:
        emit(
            catalogue.RESOURCES_LOST(f"a host that says {secret}"),
            catalogue.LEADERSHIP_LOST(7, f"{secret}|"),
        )
    finally:
        globalLogPublisher.removeObserver(observer)
    texts = [event["line"].text for event in events]
    assert texts == ["RESOURCES_LOST|a host that says ***", "LEADERSHIP_LOST|7|***\\x7c"]
    failure = Failure(ValueError(f"can't use {secret}"))  # type: ignore[no-untyped-call]
    event = {"log_level": LogLevel.critical, "log_format": "bad", "log_failure": failure}
    assert "can't use ***" in line_of(TextForm(), event)
    assert secret not in line_of(TextForm(), event)
