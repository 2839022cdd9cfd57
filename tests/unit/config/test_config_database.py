"""``database_<env>.yml``: ActiveRecord's keys become libpq's, and bad files are told without secrets."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import psycopg2
import psycopg2.extensions
import pytest

from tefmanager.config.config import ConfigError
from tefmanager.config.database_yml import LIBPQ, SSL_MODES, read_database

SECRET = "hunter2"
Read = Callable[[str], dict[str, str]]


@pytest.fixture
def read(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """Read a file with this text for the environment dev, in a folder whose name tells nothing."""
    path = tmp_path_factory.mktemp("database") / "database_dev.yml"

    def read(text: str) -> dict[str, str]:
        path.write_text(text)
        return read_database(path, "dev")

    return read


@pytest.fixture
def problems(read: Read) -> Callable[[str], list[str]]:
    """Return what is wrong with a text, without the file's name before it."""

    def problems(text: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            read(text)
        assert SECRET not in str(caught.value)
        assert str(caught.value).isprintable()
        return [problem.partition("database_dev.yml")[2] for problem in caught.value.problems]

    return problems


def test_active_record_keys(read: Read) -> None:
    """ActiveRecord's names are translated, libpq's pass through, and the pool's are left out."""
    text = """
        adapter: postgresql
        host: db1,db2
        port: 5432,5433
        database: tef
        username: bob
        password: "p w"
        pool: 5
        encoding: unicode
        sslmode: verify-full
        connect_timeout: 10
        target_session_attrs: read-write
    """
    assert read(text) == {
        "host": "db1,db2",
        "port": "5432,5433",
        "dbname": "tef",
        "user": "bob",
        "password": "p w",
        "sslmode": "verify-full",
        "connect_timeout": "10",
        "target_session_attrs": "read-write",
    }


@pytest.mark.parametrize(
    "text", ["0123", "no", "1e5", "2020-01-01", "0x1F", "1_000", "12:30:45", "null0", "p#x"]
)
def test_values_stay_as_written(read: Read, text: str) -> None:
    """What YAML takes for a number, a date or a truth value may well be a password."""
    assert read(f"database: d\npassword: {text}")["password"] == text


def test_empty_values_are_none(read: Read) -> None:
    """A key without a value is as if it were not there."""
    assert read('database: d\npassword:\nhost: ~\nuser: ""\nadapter:') == {"dbname": "d"}


@pytest.mark.parametrize("adapter", ["postgresql", "postgres", "postgis"])
def test_adapters(read: Read, adapter: str) -> None:
    """All names of PostgreSQL will do."""
    assert read(f"adapter: {adapter}\ndatabase: d") == {"dbname": "d"}


def test_keys_that_mean_nothing_here(read: Read) -> None:
    """What ActiveRecord says of its own session or of new databases; keys may be symbols."""
    text = """
        :adapter: postgresql
        :database: tef
        variables:
          statement_timeout: 5000
        template: template0
        owner: bob
        collation: C
        min_messages: warning
        advisory_locks: false
        encoding: latin1
    """
    assert read(text) == {"dbname": "tef"}


@pytest.mark.parametrize("path", ["grid", '"$user", public', "a,b", "back\\slash"])
def test_schemas_reach_the_server(read: Read, path: str) -> None:
    """What ActiveRecord calls schema_search_path is the search path of the sessions."""
    quoted = path.replace("'", "''")
    options = read(f"database: d\nschema_search_path: '{quoted}'")["options"]
    given = re.sub(r"\\(.)", r"\1", options)
    assert given == f"-csearch_path={path}"


def test_merged_keys_may_be_overridden(read: Read) -> None:
    """A key that stands in a section and in what is merged into it is not there twice."""
    assert read("a: &a\n  database: x\ndev:\n  <<: *a\n  database: y") == {"dbname": "y"}


def test_section_of_the_environment(read: Read) -> None:
    """A file with a section for each environment, with anchors, is read as ActiveRecord reads it."""
    text = """
        default: &default
          adapter: postgresql
          host: h
          port: 1
        dev:
          <<: *default
          database: d
          port: 2
        prod:
          adapter: mysql2
          nonsense: 1
    """
    assert read(text) == {"host": "h", "port": "2", "dbname": "d"}


URLS = [
    "postgresql://bob:p%40%2Fss@h:1/db",
    "postgres://h/db",
    "postgresql://bob@/db",
    "postgresql:///db?host=/run/postgresql",
    "postgresql://h1:1,h2:2/db?sslmode=require&target_session_attrs=read-write",
    "postgresql://h1,h2:2/db",
    "postgresql://bob:pw@[::1]:5/d%C3%BC",
    "postgresql://bob:a:b@h/db?connect_timeout=3",
]


@pytest.mark.parametrize("url", URLS)
def test_url_means_what_it_means_to_libpq(read: Read, url: str) -> None:
    """Our reading of a URL is libpq's own."""
    assert read(f"url: '{url}'") == psycopg2.extensions.parse_dsn(url)


def test_url_with_other_keys(read: Read) -> None:
    """What a URL says beats the other keys; ActiveRecord's keys in it are left out."""
    text = "url: postgres://h/d?pool=5\nhost: other\nport: 3\ndatabase: other"
    assert read(text) == {"host": "h", "dbname": "d", "port": "3"}


def test_service_may_name_the_database(read: Read) -> None:
    """The database may stand in libpq's service file."""
    assert read("service: tef") == {"service": "tef"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("adapter: mysql2", ": adapter is 'mysql2', expected postgresql: no other database is supported"),
        ("url: mysql2://bob:hunter2@h/d", ": url: is 'mysql2', expected postgresql://user:password@"),
        ("url: bob:hunter2@h/d", ": url: is no URL, expected postgresql://user:password@"),
        ("url: postgres://bob:hunter2%ff@h/d", ": url: is not UTF-8 once percent-decoded"),
        ("url: postgres://bob:hunter2@::1/d", ": url: its host can't be read"),
        ("url: postgres://bob:hunter2@h:x/d", ": url: its port can't be read, expected a port from 1"),
        ("url: postgres://bob:hun/ter2@h/d", ": url: there is an @ behind the host; in a user name"),
        ("url: postgres://bob:h?hunter2@h/d", ": url: there is an @ behind the host; in a user name"),
        ("url: postgres://bob:hunter2", ": url: its port can't be read, expected a port from 1"),
        ("url: postgres://h/d?hunter2=1", ": url: there is an unknown key after the ?; in a user name"),
        (
            "url: postgres://h/d?ssl_mode=x",
            ": url: there is an unknown key after the ? (did you mean sslmode?)",
        ),
        ("host: postgres://bob:hunter2@h/d\ndatabase: d", ": host is '***', expected a name alone;"),
        ("host: h\ndatabase: postgres://bob:hunter2/x", ": database is '***', expected a name alone;"),
        ("host: h\ndatabase: 'dbname=d password=hunter2'", ": database is '***', expected a name alone;"),
        ("database: d\nport: postgres://bob:p@hunter2", ": port is '***', expected a port"),
        ('database: d\npassword: "\\ud800hunter2"', ": password holds half of a character"),
        ("database: d\npostgres://bob:hunter2@h/d: x", ": unknown key '***'"),
        ("host: h", ": database is missing"),
        ("database: d\npassword: <%= ENV['hunter2'] %>", ":2: has an ERB tag"),
        ("database: d\npassword: @hunter2", ":2: is not valid YAML"),
        ("database: d\npassword: *hunter2", ":2: is not valid YAML: a value begins with *,"),
        ("database: d\npassword: !hunter2 x", ":2: is not valid YAML here: a value begins with !,"),
        ("database: d\npassword: 'hunter2", ":2: is not valid YAML: a quote is not closed"),
        ("database: d\npassword:\thunter2", ":2: is not valid YAML: there is a tab, expected blanks"),
        ("database: d\npassword: hunter2: x", ":2: is not valid YAML: there is one colon too many"),
        ("database: d\npassword: [hunter2", ":2: is not valid YAML (a value with special signs"),
        ("database: d\n---\npassword: hunter2", ":2: a second document begins here (---), expected one"),
        (
            "database: d\npassword: x\npassword: hunter2",
            ":3: password occurs a second time, expected once",
        ),
        ("host: ''\ndatabase: d", ": host is empty, expected a name, an address or the folder"),
        ("port: ''\ndatabase: d", ": port is empty, expected a port, or no such line"),
        ("database: ''", ": database is empty, expected the database's name"),
        ("database: d\nusername: a\nuser: b", ": username and user are the same setting, expected one"),
        ("database: d\npassword: hunter2\x01", ": is not valid YAML"),
        ("database: d\npassword: [hunter2]", ": password holds no text"),
        ("hunter2", ": holds a text without a key, expected lines such as"),
        ("- hunter2", ": holds a list, expected lines such as"),
        ("", ": holds nothing, expected lines such as"),
        ("database: d\nusernam: bob", ": unknown key usernam (did you mean username?)"),
        ("database: d\nschema_path: x", ": unknown key schema_path"),
        ("database: d\nport: x", ": port is 'x', expected a port from 1 to 65535"),
        ("database: d\nport: 65536", ": port is '65536', expected a port"),
        ("database: d\nsslmode: on", ": sslmode is 'on', expected one of disable, allow"),
        ("database: d\nconnect_timeout: 1.5", ": connect_timeout is '1.5', expected a whole number"),
        ('database: d\npassword: "hunter2\\0"', ": password holds a NUL"),
        ("prod:\n  database: d\ntest:\n  database: d", ": has no section dev (found: prod, test)"),
        ("dev:\n  primary:\n    database: d", ": primary holds no text"),
        (
            "database: x\nhost: a,b\nport: 1,2,3",
            ": port names 3, expected one, or as many as there are hosts (2)",
        ),
        (
            "database: x\nhost: a\nport: 1,2",
            ": port names 2, expected one, or as many as there are hosts (1)",
        ),
    ],
)
def test_bad_file(problems: Callable[[str], list[str]], text: str, problem: str) -> None:
    """Each fault is told with its line or key, and nothing that may be secret."""
    (found,) = problems(text)
    assert found.startswith(problem)


def test_all_faults_at_once(problems: Callable[[str], list[str]]) -> None:
    """A file's faults are told together."""
    assert len(problems("adapter: sqlite3\nport: x\nfoo: bar")) == 3


def test_erb_in_a_comment_is_harmless(read: Read) -> None:
    """The comments of a generated file don't count."""
    assert read("# pool: <%= ENV['X'] %>\ndatabase: d") == {"dbname": "d"}


def test_file_that_can_not_be_read(tmp_path: Path) -> None:
    """A missing file, a folder in its place, and bytes that are no text."""
    (tmp_path / "database_dev.yml").mkdir()
    (tmp_path / "latin.yml").write_bytes(b"database: \xfc")
    for name, problem in [
        ("gone.yml", "does not exist"),
        ("database_dev.yml", "can't be read: Is a directory"),
        ("latin.yml", "is not UTF-8"),
    ]:
        with pytest.raises(ConfigError) as caught:
            read_database(tmp_path / name, "dev")
        assert str(caught.value).startswith(f"{tmp_path / name} {problem}")


@pytest.mark.skipif(psycopg2.extensions.libpq_version() < 170000, reason="the list is that of libpq 17")
@pytest.mark.parametrize("keyword", sorted(LIBPQ - {"dbname"}))
def test_libpq_knows_every_keyword(keyword: str) -> None:
    """The list of keywords holds none that libpq refuses."""
    assert psycopg2.extensions.parse_dsn(f"dbname=d {keyword}=1")[keyword] == "1"


@pytest.mark.parametrize("mode", SSL_MODES)
def test_libpq_knows_every_sslmode(mode: str) -> None:
    """Each mode gets as far as the connection, which nobody takes."""
    with pytest.raises(psycopg2.OperationalError) as caught:
        psycopg2.connect(host="127.0.0.1", port=1, sslmode=mode, sslrootcert="/dev/null", connect_timeout=1)
    assert "invalid sslmode" not in str(caught.value)
