"""Configuration: which source counts, what each setting may be, and what is said of bad ones."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import trustme

from tefmanager.config.config import Config, ConfigError, config_from
from tefmanager.config.endpoints import AmqpEndpoint
from tefmanager.config.kinds import EtcdApi, UnknownResources
from tefmanager.config.settings import GROUPS, SETTINGS, reference_table
from tests.paths import ROOT

SECRET = "hunter2"
Load = Callable[..., Config]
Refused = Callable[..., tuple[str, ...]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a good file for each environment."""
    for env in ("dev", "test", "prod"):
        (tmp_path / f"database_{env}.yml").write_text(f"adapter: postgresql\ndatabase: tef_{env}\n")
    return tmp_path


@pytest.fixture
def environ(folder: Path) -> dict[str, str]:
    """Variables that are enough to start."""
    return {"TEF_AMQP_URL_DEV": f"amqp://bob:{SECRET}@rabbit:5673/v", "TEF_MANAGER_DB_CONFIG": str(folder)}


@pytest.fixture
def load(environ: dict[str, str]) -> Load:
    """Load with options by keyword and further variables as a mapping; None takes a variable away."""

    def load(more: Mapping[str, str | None] | None = None, **options: object) -> Config:
        variables = {**environ, **(more or {})}
        given = {name: text for name, text in variables.items() if text is not None}
        return config_from({name.replace("_", "-"): value for name, value in options.items()}, given)

    return load


@pytest.fixture
def refused(load: Load) -> Refused:
    """Load what must be refused, and return the problems, none of which may tell the password."""

    def refused(more: Mapping[str, str | None] | None = None, **options: object) -> tuple[str, ...]:
        with pytest.raises(ConfigError) as caught:
            load(more, **options)
        assert SECRET not in str(caught.value) + repr(caught.value)
        assert str(caught.value).isprintable()
        return caught.value.problems

    return refused


@pytest.fixture
def ini(tmp_path: Path) -> Callable[[str], str]:
    """Write an INI file and return its name."""

    def write(text: str, head: str = "[tef-manager]\n") -> str:
        path = tmp_path / "x.ini"
        path.write_text(head + text)
        return str(path)

    return write


def test_defaults(load: Load) -> None:
    """The environment alone is enough, and everything else is as the protocol says."""
    assert load() == Config(
        env="dev",
        name_prefix="tef.dev",
        in_queue="tef.dev.manager",
        amqp=(AmqpEndpoint("rabbit", 5673, "bob", SECRET, "v"),),
        database={"dbname": "tef_dev"},
        etcd=(("127.0.0.1", 2379), ("127.0.0.1", 4001)),
        etcd_api=EtcdApi.AUTO,
        worker_update_interval=30,
        missing_interval=90,
        time_limit=600,
        dispatch_timeout=30,
        release_grace=2,
        dispatch_interval=10,
        max_attempts=5,
        patience=10,
        silence_limit=12,
        unknown_resources=UnknownResources.ALLOW,
        history_days=7,
        message_limit=16 * 1024 * 1024,
    )


def test_defaults_of_the_class_are_those_of_the_table(load: Load) -> None:
    """Whoever builds a Config by hand gets the same defaults."""
    by_hand = Config(env="dev", name_prefix="tef.dev", in_queue="tef.dev.manager")
    services = {name: getattr(load(), name) for name in ("amqp", "database", "etcd")}
    assert dataclasses.replace(by_hand, **services) == load()


def test_derived_names(load: Load) -> None:
    """Dead and rejected queue and the events exchange come from the prefix, not from the in-queue."""
    config = load(name_prefix="grid.a", in_queue="tasks")
    names = (config.in_queue, config.dead_queue, config.rejected_queue, config.events_exchange)
    assert names == ("tasks", "grid.a.manager.dead", "grid.a.manager.rejected", "grid.a.manager.events")
    assert config.etcd_base == "/tef/dev/resources"


def test_option_beats_environment_beats_file_beats_default(load: Load, ini: Callable[[str], str]) -> None:
    """The four sources stand in this order."""
    file = ini("time-limit = 3\n")
    assert load().time_limit == 600
    assert load(config=file).time_limit == 3
    assert load({"TEF_MANAGER_TIME_LIMIT": "2"}, config=file).time_limit == 2
    assert load({"TEF_MANAGER_TIME_LIMIT": "2"}, config=file, time_limit="1.5").time_limit == 1.5


def test_empty_counts_as_not_given(load: Load, ini: Callable[[str], str]) -> None:
    """An empty value in any source leaves the word to the next one."""
    empty = {"TEF_MANAGER_TIME_LIMIT": " "}
    assert load(empty, time_limit="", config=ini("time-limit =\n")).time_limit == 600


@pytest.mark.parametrize(("text", "env"), [("Prod", "prod"), ("TEST", "test"), (" dev ", "dev")])
def test_env_in_any_case(load: Load, text: str, env: str) -> None:
    """TEF_ENV is taken in any case, and names variables, files and queues."""
    config = load({"TEF_ENV": text, f"TEF_AMQP_URL_{env.upper()}": "amqp://h"})
    assert (config.env, config.in_queue) == (env, f"tef.{env}.manager")
    assert config.database == {"dbname": f"tef_{env}"}


def test_env_from_the_other_sources(load: Load, ini: Callable[[str], str]) -> None:
    """The environment may be named by option and in the file as well."""
    url = {"TEF_AMQP_URL_PROD": "amqp://h"}
    assert load(url, env="prod").env == "prod"
    assert load(url, config=ini("env = prod")).env == "prod"


def test_bad_env(refused: Refused) -> None:
    """An unknown environment is told, without guesses at what else may be missing."""
    assert refused({"TEF_ENV": "production"}) == ("TEF_ENV is 'production', expected dev, test or prod",)


def test_lower_case_variables(load: Load) -> None:
    """The environment in a variable's name may be in small letters; capitals count first."""
    lower = {"TEF_AMQP_URL_DEV": None, "TEF_AMQP_URL_dev": "amqp://lower", "TEF_ETCD_PORT_dev": "7"}
    assert load(lower).amqp[0].host == "lower"
    assert load(lower).etcd == (("127.0.0.1", 7),)
    assert load({"TEF_AMQP_URL_dev": "amqp://lower"}).amqp[0].host == "rabbit"


def test_own_variable_counts_first(load: Load) -> None:
    """What is meant for this program alone beats what all programs of the TEF share."""
    assert load({"TEF_MANAGER_AMQP_URL": "amqp://own"}).amqp[0].host == "own"


def test_several_brokers(load: Load) -> None:
    """URLs are separated by commas, of which a password may have some."""
    config = load({"TEF_AMQP_URL_DEV": f"amqp://a:x,{SECRET}@one, AMQPS://two/,amqp://three/w,"})
    assert [(each.host, each.vhost, each.tls) for each in config.amqp] == [
        ("one", "/", False),
        ("two", "/", True),
        ("three", "w", False),
    ]
    assert config.amqp[0].password == f"x,{SECRET}"


def test_account_beside_the_url(load: Load) -> None:
    """User and password of their own variables replace those of every URL, each by itself."""
    urls = {"TEF_AMQP_URL_DEV": "amqp://u:p@one,amqp://two"}
    both = load({**urls, "TEF_AMQP_USER_DEV": "ann", "TEF_AMQP_PASSWORD_dev": "<env>"})
    assert {(each.user, each.password) for each in both.amqp} == {("ann", "<env>")}
    user = load({**urls, "TEF_AMQP_USER_DEV": "ann"})
    assert [(each.user, each.password) for each in user.amqp] == [("ann", "p"), ("ann", "guest")]


def test_missing_services(refused: Refused) -> None:
    """Both variables are named, and the file that was looked for."""
    assert refused({"TEF_AMQP_URL_DEV": None, "TEF_MANAGER_DB_CONFIG": None}) == (
        "TEF_AMQP_URL_DEV is not set, expected amqp://user:password@host:port/vhost",
        "TEF_MANAGER_DB_CONFIG is not set, expected the folder that holds database_dev.yml",
    )


@pytest.mark.parametrize("where", ["/nowhere/at/all", __file__, f"postgres://tef:{SECRET}@host/db"])
def test_db_config_that_is_no_folder(refused: Refused, where: str) -> None:
    """A folder is meant; a file, or a URL with a password, is told to be none."""
    (problem,) = refused({"TEF_MANAGER_DB_CONFIG": where})
    assert problem.startswith("TEF_MANAGER_DB_CONFIG: ")
    assert problem.endswith(" is no folder, expected the one that holds database_dev.yml")


def test_db_config_without_the_file(refused: Refused, folder: Path) -> None:
    """The file that was looked for is named."""
    (folder / "database_dev.yml").unlink()
    (problem,) = refused()
    assert problem.startswith(f"TEF_MANAGER_DB_CONFIG: {folder}/database_dev.yml does not exist")


@pytest.mark.parametrize(
    "url",
    [
        f"http://bob:{SECRET}@rabbit",
        f"bob:{SECRET}@rabbit",
        f"amqp://bob:{SECRET}@rabbit:port/",
        f"amqp://bob:{SECRET}/x@rabbit",
        f"amqp://bob:{SECRET}@one,two:{SECRET}@three",
        "amqp://one,two",
        f"amqp://bob:{SECRET}@one,two:5672/v",
        f"amqp://bob:{SECRET}%ff@rabbit",
        f"amqp://bob:{SECRET}@[rabbit",
        f"amqp://bob:{SECRET}@rabbit/a/b",
        f"amqp://bob@rabbit:{SECRET}",
    ],
)
def test_bad_amqp_url(refused: Refused, url: str) -> None:
    """A URL that can't be used is told, without any of its secrets."""
    (problem,) = refused({"TEF_AMQP_URL_DEV": url})
    assert problem.startswith("TEF_AMQP_URL_DEV: ")
    assert problem.endswith("expected amqp://user:password@host:port/vhost")


def test_password_on_the_command_line(refused: Refused, load: Load) -> None:
    """It is refused there, as ps shows it; a URL without one is fine."""
    for url in (f"amqp://bob:{SECRET}@h", f"amqp://ann@h,amqp://bob:{SECRET}@h", f"bob:{SECRET}@h"):
        (problem,) = refused(amqp_url=url)
        assert problem.startswith("--amqp-url has a password in it, which ps shows")
        assert "TEF_AMQP_URL_DEV" in problem
    config = load({"TEF_AMQP_PASSWORD_DEV": "p"}, amqp_url="amqp://ann@h")
    assert (config.amqp[0].user, config.amqp[0].password) == ("ann", "p")


@pytest.mark.parametrize(
    ("host", "port", "etcd"),
    [
        ("e", None, (("e", 2379), ("e", 4001))),
        ("e", "4001", (("e", 4001),)),
        ("e:9", None, (("e", 9),)),
        ("e:9, f", "7", (("e", 9), ("f", 7))),
        ("e,f,", None, (("e", 2379), ("f", 2379), ("e", 4001), ("f", 4001))),
        ("[::1]:9,[fe80::1%eth0]", "7", (("::1", 9), ("fe80::1%eth0", 7))),
    ],
)
def test_etcd(load: Load, host: str, port: str | None, etcd: object) -> None:
    """Hosts with and without port; where nobody names one, both ports are tried in turn."""
    assert load({"TEF_ETCD_HOST_DEV": host, "TEF_ETCD_PORT_DEV": port}).etcd == etcd
    assert load(etcd_host=host, etcd_port=port).etcd == etcd


@pytest.mark.parametrize(
    "host",
    ["http://e:2379", f"root:{SECRET}@e", "::1", "e:0", "e:x", "e f", "[::1", ":9", "ab--c.org", "a" * 64],
)
def test_bad_etcd_host(refused: Refused, host: str) -> None:
    """A URL, a bare IPv6 address, bad ports, and names that can't be looked up are refused."""
    (problem,) = refused({"TEF_ETCD_HOST_DEV": host})
    assert re.fullmatch(r"TEF_ETCD_HOST_DEV is '.*', expected host or host:port \(no URL.*", problem)


@pytest.mark.parametrize("name", [name for name, each in SETTINGS.items() if each.kind.sign == "SECONDS"])
@pytest.mark.parametrize("text", ["0", "-1", "x", "nan", "inf", "1e3", "30s", "0.0", "1_0", "٣", "9" * 400])
def test_bad_time(refused: Refused, name: str, text: str) -> None:
    """Times are above zero, finite, and written plainly."""
    (problem,) = refused(**{name: text})
    assert problem.startswith(f"--{name} is ")
    assert problem.endswith(f"expected {SETTINGS[name].kind.expected}")
    assert len(problem) < 200


def test_silence_limit(load: Load, refused: Refused) -> None:
    """It has a least value, and heartbeats follow from it unless a URL names one."""
    (problem,) = refused(**{"silence-limit": "2.9"})
    assert problem == "--silence-limit is '2.9', expected a number of seconds, 3 or more"
    urls = "amqp://a/,amqp://b/?heartbeat=20"
    config = load({"TEF_AMQP_URL_DEV": urls}, **{"silence-limit": "30"})
    assert config.silence_limit == 30
    assert [endpoint.heartbeat for endpoint in config.amqp] == [12, 20]


def test_heartbeats_can_not_be_switched_off(load: Load) -> None:
    """The default counts instead, and a warning says so; the URL with its password is not in it."""
    config = load({"TEF_AMQP_URL_DEV": "amqp://u:secret@a/?heartbeat=0,amqp://b/?heartbeat=3"})
    assert [endpoint.heartbeat for endpoint in config.amqp] == [5, 3]
    [warning] = [each for each in config.warnings if "heartbeat" in each]
    assert warning.startswith("TEF_AMQP_URL_DEV: heartbeat=0 is ignored")
    assert "secret" not in warning


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("max-attempts", "-1"),
        ("max-attempts", "1.5"),
        ("history-days", "-1"),
        ("history-days", "week"),
        ("message-limit", "0"),
        ("message-limit", "16M"),
        ("etcd-port", "0"),
        ("etcd-port", "65536"),
        ("etcd-api", "v4"),
        ("unknown-resources", "maybe"),
        ("bind", "no-key"),
        ("bind", ":task"),
        ("bind", "x" * 256 + ":task"),
        ("bind", "e:" + "ü" * 128),
        ("name-prefix", "p" * 239),
        ("name-prefix", "ü" * 120),
        ("name-prefix", "amq.tef"),
        ("name-prefix", "a/b"),
        ("name-prefix", "a~b"),
        ("name-prefix", "a|b"),
        ("name-prefix", "a b"),
        ("in-queue", "amq.rabbit"),
        ("in-queue", "q" * 256),
        ("in-queue", "a\nb"),
        ("in-queue", "a\0b"),
        ("in-queue", "<prefix>.manager.dead"),
        ("in-queue", "<prefix>.manager.rejected"),
    ],
)
def test_bad_value(refused: Refused, name: str, text: str) -> None:
    """Each kind of setting refuses what it can't be, and says where it was found."""
    (problem,) = refused({SETTINGS[name].own_variable: text})
    assert problem.startswith(f"{SETTINGS[name].own_variable} is ")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("max-attempts", "0", 0),
        ("history-days", "0", 0.0),
        ("history-days", "0.5", 0.5),
        ("patience", ".25", 0.25),
        ("etcd-api", "V3", EtcdApi.V3),
        ("unknown-resources", "wait", UnknownResources.WAIT),
        ("name-prefix", "p" * 238, "p" * 238),
        ("name-prefix", "grid.<env>", "grid.dev"),
        ("in-queue", "q" * 255, "q" * 255),
        ("in-queue", "<prefix>.in", "tef.dev.in"),
    ],
)
def test_good_value(load: Load, name: str, text: str, value: object) -> None:
    """What lies just inside the limits is taken."""
    assert getattr(load({SETTINGS[name].own_variable: text}), name.replace("-", "_")) == value


def test_bindings(load: Load, ini: Callable[[str], str]) -> None:
    """The first colon divides, keys may be empty, the same one twice is one; all sources hold several."""
    wanted = (("tef.dev.x", "task"), ("y", "a:b.#"), ("z", ""))
    assert load(bind=["tef.<env>.x:task", "y:a:b.#", "z:", "z:"]).bindings == wanted
    assert load({"TEF_MANAGER_BIND": "tef.dev.x:task, y:a:b.#,z:"}).bindings == wanted
    assert load(config=ini("bind = tef.dev.x:task\n  y:a:b.#\n  z:\n")).bindings == wanted


def test_missing_interval_follows_the_update_interval(load: Load) -> None:
    """Three times the update interval, unless it is set."""
    assert load(worker_update_interval="0.5").missing_interval == 1.5
    assert load(worker_update_interval="0.5", missing_interval="9").missing_interval == 9


def test_all_problems_at_once(refused: Refused) -> None:
    """Nobody has to start five times to find five mistakes."""
    problems = refused({"TEF_AMQP_URL_DEV": None, "TEF_ETCD_PORT_DEV": "x"}, time_limit="0", bind=["b"])
    assert [problem.split()[0] for problem in problems] == [
        "--time-limit",
        "--bind",
        "TEF_AMQP_URL_DEV",
        "TEF_ETCD_PORT_DEV",
    ]
    assert str(ConfigError(problems)) == "; ".join(problems)


def test_command_line_that_was_not_understood(refused: Refused) -> None:
    """Its problem is the only one, since options after it were not read."""
    assert refused({"TEF_ENV": "x"}, problem="no such option") == ("no such option",)


def test_sandbox_needs_no_services(load: Load) -> None:
    """With a sandbox, services need not be set, and bad ones don't matter."""
    for given in ({"sandbox": 1}, {"sandbox": True}):
        config = load(
            {"TEF_AMQP_URL_DEV": None, "TEF_MANAGER_DB_CONFIG": "/nowhere", "TEF_ETCD_PORT_DEV": "x"},
            **given,
        )
        assert (config.sandbox, config.amqp, dict(config.database), config.etcd) == (True, (), {}, ())
    assert load({"TEF_MANAGER_SANDBOX": "Yes", "TEF_AMQP_URL_DEV": None}).sandbox
    assert not load({"TEF_MANAGER_SANDBOX": "off"}).sandbox


def test_bad_flag(refused: Refused) -> None:
    """A flag in environment or file is yes or no."""
    problems = refused({"TEF_MANAGER_SANDBOX": "maybe"})
    assert problems == ("TEF_MANAGER_SANDBOX is 'maybe', expected yes or no",)


def test_with_services(load: Load) -> None:
    """A sandbox's addresses replace the services, and nothing else."""
    config = load(sandbox=1, time_limit="1")
    other = config.with_services("amqp://guest:guest@127.0.0.1:99/", {"dbname": "x"}, ("127.0.0.1", 98))
    assert other.amqp == (AmqpEndpoint("127.0.0.1", 99),)
    assert (other.database, other.etcd, other.time_limit) == ({"dbname": "x"}, (("127.0.0.1", 98),), 1.0)
    assert config.amqp == ()


def test_repr_tells_no_password(load: Load, folder: Path) -> None:
    """A configuration may be logged."""
    (folder / "database_dev.yml").write_text(f"database: d\npassword: {SECRET}\nsslpassword: {SECRET}\n")
    config = load()
    assert config.database["password"] == SECRET
    assert SECRET not in repr(config) + str(config)


def test_config_is_frozen_and_hashable(load: Load) -> None:
    """Nobody changes a setting once the manager runs."""
    config = load()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.env = "prod"  # type: ignore[misc]
    with pytest.raises(TypeError):
        config.database["host"] = "x"  # type: ignore[index]
    assert hash(config) == hash(load())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[tef-manager]\ntime-limt = 3", ": unknown key time-limt (did you mean time-limit?)"),
        ("[tef-manager]\nconfig = x", ": unknown key config"),
        ("[tef-manger]\n", ": unknown section [tef-manger], expected [tef-manager]"),
        ("[DEFAULT]\ntime-limit = 3", ": unknown section [DEFAULT], expected [tef-manager]"),
        (f"amqp-password = {SECRET}", ":1: expected [tef-manager] before the first key"),
        (f"[tef-manager]\n\n{SECRET}", ":3: expected 'key = value'"),
        ("[tef-manager]\nenv = dev\nenv = dev", ":3: env occurs a second time"),
        ("[tef-manager]\n[tef-manager]", ":2: [tef-manager] occurs a second time"),
        ("[tef-manager]\ntime-limit = x", ": time-limit is 'x', expected a number of seconds"),
        ("[tef-manager]\nhistory_days = x", ": history_days is 'x', expected a number of days"),
        (
            "[tef-manager]\ntime-limit = 3 # soon",
            ": time-limit is '3 # soon', expected a number of seconds",
        ),
        (f"[tef-manager]\namqp-url = {SECRET}\n env = dev", ": amqp-url: an AMQP URI begins with"),
        (
            f"[tef-manager]\netcd-password = {SECRET}\n env = dev",
            ": etcd-password continues on an indented",
        ),
        (
            "[tef-manager]\nlog-file = x\n\tenv = dev",
            ": log-file continues on an indented line, expected one",
        ),
        (f"[tef-manager]\nhttp-token-file = {SECRET}\0", ": http-token-file holds a NUL, expected text"),
    ],
)
def test_bad_ini(refused: Refused, ini: Callable[..., str], text: str, problem: str) -> None:
    """What is wrong in a file is told with its name, and the line or the key."""
    file = ini(text, head="")
    (found,) = refused({"TEF_AMQP_URL_DEV": None if "amqp-url" in text else "amqp://h"}, config=file)
    assert found.removeprefix("--config: ").startswith(file + problem)


def test_ini_that_can_not_be_read(refused: Refused, tmp_path: Path) -> None:
    """A file that is not there, is a folder or is not text."""
    (tmp_path / "latin.ini").write_bytes(b"[tef-manager]\nin-queue = \xfc\n")
    assert refused(config="/nowhere.ini") == (
        "--config: /nowhere.ini can't be read: No such file or directory",
    )
    assert refused({"TEF_MANAGER_CONFIG": str(tmp_path)}) == (
        f"TEF_MANAGER_CONFIG: {tmp_path} can't be read: Is a directory",
    )
    assert refused(config=str(tmp_path / "latin.ini")) == (f"--config: {tmp_path}/latin.ini is not UTF-8",)


def test_ini_spellings(load: Load, ini: Callable[[str], str]) -> None:
    """Underscores and capitals in keys, comments, percent signs and colons in values are all right."""
    config = load(
        {"TEF_AMQP_URL_DEV": None},
        config=ini(
            "; comment\nTime_Limit = 5\namqp-url = amqp://bob:100%25=x@h:1\n# comment\nmax-attempts=0\n"
        ),
    )
    assert (config.time_limit, config.max_attempts) == (5.0, 0)
    assert (config.amqp[0].password, config.amqp[0].port) == ("100%=x", 1)


def test_example_ini_names_every_setting_with_its_default() -> None:
    """The commented file can't fall behind the table of settings."""
    lines = (ROOT / "conf/tef-manager.ini").read_text().splitlines()
    shown = dict(line[1:].split(" = ", 1) for line in lines if re.match(r"#[a-z-]+ = ", line))
    expected = {name for name, setting in SETTINGS.items() if setting.in_file}
    assert set(shown) == expected
    for name in expected:
        assert shown[name] == (SETTINGS[name].default or shown[name])


def test_example_files_with_everything_switched_on(load: Load, tmp_path: Path, folder: Path) -> None:
    """All the lines that are commented out are good ones."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    ours = authority.issue_cert("tef-manager")
    ours.cert_chain_pems[0].write_to_path(folder / "tef-manager.pem")
    ours.private_key_pem.write_to_path(folder / "tef-manager.key")
    (folder / "http-token").write_text("a token of some length".replace(" ", "-"))
    text = (ROOT / "conf/tef-manager.ini").read_text()
    file = tmp_path / "all.ini"
    text = re.sub(r"(?m)^#([a-z-]+ = )", r"\1", text).replace(" = /etc/tef-manager", f" = {folder}")
    file.write_text(text.replace(" = amqp://", " = amqps://"))
    example = (ROOT / "conf/database.yml.example").read_text()
    (folder / "database_dev.yml").write_text(example)
    config = load({"TEF_AMQP_URL_DEV": None, "TEF_MANAGER_DB_CONFIG": None}, config=str(file))
    assert config.bindings == (("tef.dev.queuebert_generated_messages", "task"),)
    assert config.database["user"] == "tef"
    assert config.time_limit == load().time_limit


@pytest.mark.parametrize("group", GROUPS)
def test_reference_is_made_of_the_table(group: str) -> None:
    """The reference shows each group of settings as the table has it."""
    assert reference_table(group) in (ROOT / "docs/configuration.md").read_text()


# --- what was hardly meant ---


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("TEF_MANAGER_TIME_LIMT", "(did you mean TEF_MANAGER_TIME_LIMIT?)"),
        ("TEF_MANAGER_DB_CONFG", "(did you mean TEF_MANAGER_DB_CONFIG?)"),
        ("TEF_AMQP_PASWORD_DEV", "(did you mean TEF_AMQP_PASSWORD_DEV?)"),
        ("TEF_ETCD_HOTS_DEV", "(did you mean TEF_ETCD_HOST_DEV?)"),
        ("tef_manager_time_limit", "(did you mean TEF_MANAGER_TIME_LIMIT?)"),
    ],
)
def test_mistyped_variable(load: Load, variable: str, hint: str) -> None:
    """It is named with the likely one; its value is not shown."""
    assert load({variable: SECRET}).warnings == (f"{variable} is not a setting and has no effect {hint}",)


def test_unknown_variable_of_ours(load: Load) -> None:
    """One that is like no other is named all the same."""
    (warning,) = load({"TEF_MANAGER_QQQQQQQ": "1"}).warnings
    assert warning.startswith("TEF_MANAGER_QQQQQQQ is not a setting and has no effect")


@pytest.mark.parametrize(
    "variable",
    ["TEF_ETCD_HOST_PROD", "TEF_AMQP_URL_test", "TEF_WORK_NODE_ROOT_LOCATION", "TEF_QUEUEBERT_X"],
)
def test_variables_of_others(load: Load, variable: str) -> None:
    """Those of other environments and other programs are left alone."""
    assert load({variable: "x"}).warnings == ()


def test_one_setting_by_two_variables(load: Load) -> None:
    """The one that counts is named, where they differ."""
    both = {"TEF_ETCD_HOST_DEV": "a", "TEF_ETCD_HOST_dev": "b"}
    assert load(both).warnings == (
        "TEF_ETCD_HOST_DEV is used; TEF_ETCD_HOST_dev with another value has no effect",
    )
    assert load({**both, "TEF_ETCD_HOST_dev": "a"}).warnings == ()


def test_one_setting_in_two_spellings(refused: Refused, ini: Callable[[str], str]) -> None:
    """Nobody can tell which one of two lines was meant."""
    (problem,) = refused(config=ini("time-limit = 3\ntime_limit = 4\n"))
    assert problem.endswith("time-limit and time_limit are the same setting, expected one")


def test_variables_of_libpq_that_count(load: Load, folder: Path) -> None:
    """They are told, and the place that they name is known; not where the file says the same."""
    config = load({"PGHOST": "elsewhere", "PGPORT": "7", "PGSSLMODE": "disable"})
    assert config.database == {"dbname": "tef_dev", "host": "elsewhere", "port": "7"}
    assert [warning.partition(" ")[0] for warning in config.warnings] == ["PGHOST", "PGPORT", "PGSSLMODE"]
    (folder / "database_dev.yml").write_text("database: d\nhost: h\nport: 1\nsslmode: verify-full")
    more = {"PGHOST": "elsewhere", "PGHOSTADDR": "10.0.0.1", "PGPORT": "7", "PGSSLMODE": "disable"}
    assert load(more).warnings == ()
    assert load(more).database["host"] == "h"
    assert "hostaddr" not in load(more).database


def test_variables_of_libpq_that_can_not_be(refused: Refused, folder: Path) -> None:
    """A place that libpq would refuse is refused at once."""
    (problem,) = refused({"PGPORT": "x"})
    assert problem.endswith("PGPORT is 'x', expected a port from 1 to 65535")
