"""Settings for TLS and login: what they make, and one line for each file that is missing or wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from tefmanager.config.config import Config, ConfigError, config_from
from tefmanager.config.endpoints import EtcdAccess
from tefmanager.config.tls_files import TlsFiles

SECRET = "hunter2"
Load = Callable[[Mapping[str, str]], Config]
Refused = Callable[[Mapping[str, str]], tuple[str, ...]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good files and bad ones."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    for name in ("ours", "other"):
        issued = authority.issue_cert(f"{name}.example.com")
        issued.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
        issued.private_key_pem.write_to_path(folder / f"{name}.key")
        issued.private_key_and_cert_chain_pem.write_to_path(folder / f"{name}-both.pem")
    key = load_pem_private_key((folder / "ours.key").read_bytes(), None)
    locked = BestAvailableEncryption(SECRET.encode())
    (folder / "locked.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
    for kind in ("CERTIFICATE", "PRIVATE KEY"):
        text = f"-----BEGIN {kind}-----\n{SECRET}\n-----END {kind}-----\n"
        (folder / f"broken-{kind.split()[-1].lower()}.pem").write_text(text)
    (folder / "empty.pem").write_text("")
    (folder / "folder.pem").mkdir()
    (folder / "database_dev.yml").write_text("database: tef\n")
    return folder


@pytest.fixture
def load(folder: Path) -> Load:
    """Load a configuration that has all else it needs; ``@`` stands for the folder."""

    def load(given: Mapping[str, str]) -> Config:
        usual = {"TEF_AMQP_URL_DEV": "amqps://rabbit", "TEF_MANAGER_DB_CONFIG": "@"}
        texts = {name: text.replace("@", str(folder)) for name, text in {**usual, **given}.items()}
        return config_from({}, texts)

    return load


@pytest.fixture
def refused(load: Load, folder: Path) -> Refused:
    """Load what must be refused, and return the problems with the folder's name shortened again."""

    def refused(given: Mapping[str, str]) -> tuple[str, ...]:
        with pytest.raises(ConfigError) as caught:
            load(given)
        assert SECRET not in str(caught.value)
        return tuple(problem.replace(str(folder), "@") for problem in caught.value.problems)

    return refused


def test_nothing_given(load: Load) -> None:
    """Etcd is reached by http and without a login, and RabbitMQ by what its URL says."""
    config = load({})
    assert config.etcd_access == EtcdAccess(None, None, "")
    assert config.amqp[0].tls_files == TlsFiles()


def test_etcd(load: Load, folder: Path) -> None:
    """A CA or a certificate means https."""
    account = {"TEF_ETCD_USER_DEV": "tef", "TEF_ETCD_PASSWORD_DEV": f"<env>{SECRET}"}
    files = {"TEF_ETCD_CA_DEV": "@/ca.pem", "TEF_ETCD_CERT_dev": "@/ours.pem"}
    config = load({**account, **files, "TEF_MANAGER_ETCD_KEY": "@/ours.key"})
    names = (str(folder / name) for name in ("ca.pem", "ours.pem", "ours.key"))
    assert config.etcd_access == EtcdAccess(TlsFiles(*names), "tef", f"<env>{SECRET}")
    assert SECRET not in repr(config)


@pytest.mark.parametrize(
    ("given", "tls"),
    [
        ({"TEF_ETCD_TLS_DEV": "yes"}, TlsFiles()),
        ({"TEF_ETCD_TLS_DEV": "no"}, None),
    ],
)
def test_etcd_with_the_certificates_of_the_system(
    load: Load, given: dict[str, str], tls: TlsFiles | None
) -> None:
    """The system's CAs will do where it is said that TLS is wanted."""
    assert load(given).etcd_access.tls == tls


def test_relative_names(load: Load, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative name is made absolute, since a daemon may change its folder."""
    monkeypatch.chdir(folder)
    assert load({"TEF_ETCD_CA_DEV": "ca.pem"}).etcd_access.tls == TlsFiles(str(folder / "ca.pem"))


def test_rabbitmq(load: Load, folder: Path) -> None:
    """The settings replace what URLs say."""
    url = "amqps://one?cacertfile=@/empty.pem&certfile=@/other.pem&keyfile=@/empty.pem,amqps://two"
    ours = {"TEF_AMQP_CA_DEV": "@/ca.pem", "TEF_AMQP_CERT_DEV": "@/ours-both.pem"}
    one, two = load({"TEF_AMQP_URL_DEV": url, **ours}).amqp
    both = str(folder / "ours-both.pem")
    assert one.tls_files == TlsFiles(str(folder / "ca.pem"), both, both)
    assert two.tls_files == one.tls_files


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("query", ["", "?cacertfile=@/ca.pem"])
def test_rabbitmq_half_in_the_clear(load: Load, query: str, order: int) -> None:
    """A broker without TLS beside one with a certificate is refused, and beside any with TLS it is told."""
    url = ",".join([f"amqps://one{query}", "amqp://two"][::order])
    mixed = "TEF_AMQP_URL_DEV names brokers with amqps:// and with amqp://"
    given = {"TEF_AMQP_URL_DEV": url}
    with pytest.raises(ConfigError, match=mixed):
        load(given if query else {**given, "TEF_AMQP_CA_DEV": "@/ca.pem"})
    if not query:
        assert load(given).warnings[0].startswith(mixed)


def test_warnings(load: Load) -> None:
    """What switches off that a server has to prove who it is, is told at the start."""
    assert load({"TEF_AMQP_URL_DEV": "amqps://one"}).warnings == ()
    [warning] = load({"TEF_AMQP_URL_DEV": "amqps://one?verify=verify_none"}).warnings
    assert warning.startswith("TEF_AMQP_URL_DEV has verify=verify_none: ")


FILES: dict[str, tuple[dict[str, str], str]] = {
    "missing": ({"CA": "gone.pem"}, "CA: @/gone.pem can't be read: No such file or directory"),
    "folder": ({"CA": "folder.pem"}, "CA: @/folder.pem can't be read: Is a directory"),
    "empty": ({"CA": "empty.pem"}, "CA: @/empty.pem holds no certificate (PEM)"),
    "a key": ({"CA": "ours.key"}, "CA: @/ours.key holds no certificate (PEM)"),
    "broken": (
        {"CA": "broken-certificate.pem"},
        "CA: @/broken-certificate.pem holds no certificate that can be read",
    ),
    "no certificate": (
        {"CERT": "ours.key", "KEY": "ours.key"},
        "CERT: @/ours.key holds no certificate (PEM)",
    ),
    "no key": (
        {"CERT": "ours.pem", "KEY": "ca.pem"},
        "KEY: @/ca.pem holds no private key (PEM)",
    ),
    "no key beside it": ({"CERT": "ours.pem"}, "CERT: @/ours.pem holds no private key (PEM)"),
    "missing key": (
        {"CERT": "ours.pem", "KEY": "gone.key"},
        "KEY: @/gone.key can't be read: No such file or directory",
    ),
    "broken key": (
        {"CERT": "ours.pem", "KEY": "broken-key.pem"},
        "KEY: @/broken-key.pem holds no private key that can be read",
    ),
    "other key": (
        {"CERT": "ours.pem", "KEY": "other.key"},
        "KEY: @/other.key is not the key of @/ours.pem",
    ),
    "locked key": (
        {"CERT": "ours.pem", "KEY": "locked.key"},
        "KEY: @/locked.key is encrypted, expected a private key without a passphrase",
    ),
}
"""Bad files by what is wrong with them: the settings, and what is told."""


@pytest.mark.parametrize("service", ["AMQP", "ETCD"])
@pytest.mark.parametrize("kind", FILES)
def test_bad_files(refused: Refused, service: str, kind: str) -> None:
    """Each bad file is one line with the setting, the file and the reason."""
    files, told = FILES[kind]
    setting, _, rest = told.partition(":")
    given = {f"TEF_{service}_{name}_DEV": f"@/{file}" for name, file in files.items()}
    assert refused(given) == (f"TEF_{service}_{setting}_DEV:{rest}",)


def test_bad_files_in_the_url(refused: Refused) -> None:
    """Files in a URL are looked at as well, each complaint is told once for several brokers."""
    url = "amqps://one?cacertfile=@/gone.pem,amqps://two?cacertfile=@/gone.pem"
    assert refused({"TEF_AMQP_URL_DEV": url}) == (
        "TEF_AMQP_URL_DEV: cacertfile: @/gone.pem can't be read: No such file or directory",
    )
    url = "amqps://one?certfile=@/ours.pem&keyfile=@/other.key"
    assert refused({"TEF_AMQP_URL_DEV": url}) == (
        "TEF_AMQP_URL_DEV: keyfile: @/other.key is not the key of @/ours.pem",
    )
    assert refused({"TEF_AMQP_URL_DEV": "amqps://one?keyfile=@/ours.key"}) == (
        "TEF_AMQP_URL_DEV: keyfile needs certfile",
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"TEF_ETCD_KEY_DEV": "@/ours.key"}, "TEF_ETCD_CERT_DEV is not set, but TEF_ETCD_KEY_DEV is"),
        ({"TEF_AMQP_KEY_DEV": "@/ours.key"}, "TEF_AMQP_CERT_DEV is not set, but TEF_AMQP_KEY_DEV is"),
        ({"TEF_ETCD_USER_DEV": "tef"}, "TEF_ETCD_PASSWORD_DEV is not set, but TEF_ETCD_USER_DEV is"),
        ({"TEF_ETCD_PASSWORD_DEV": SECRET}, "TEF_ETCD_USER_DEV is not set, but TEF_ETCD_PASSWORD_DEV is"),
        (
            {"TEF_ETCD_USER_DEV": "t:f", "TEF_ETCD_PASSWORD_DEV": SECRET},
            "TEF_ETCD_USER_DEV has a colon in it, which no user's name can have",
        ),
        (
            {"TEF_ETCD_TLS_DEV": "no", "TEF_ETCD_CA_DEV": "@/ca.pem"},
            "TEF_ETCD_CA_DEV is set, but TEF_ETCD_TLS_DEV says that Etcd is reached without TLS",
        ),
        (
            {"TEF_AMQP_URL_DEV": "amqp://rabbit", "TEF_AMQP_CA_DEV": "@/ca.pem"},
            "TEF_AMQP_CA_DEV is set, but TEF_AMQP_URL_DEV names no broker with amqps://",
        ),
        (
            {"TEF_AMQP_URL_DEV": "amqps://rabbit?verify=none"},
            "TEF_AMQP_URL_DEV: verify is 'none', expected verify_peer or verify_none; "
            "expected amqp://user:password@host:port/vhost",
        ),
    ],
)
def test_what_does_not_go_together(refused: Refused, given: dict[str, str], told: str) -> None:
    """Half a login, a key without its certificate, and files that nobody would read."""
    assert refused(given) == (told,)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sslrootcert: @/gone.pem", "sslrootcert: @/gone.pem can't be read: No such file or directory"),
        ("sslrootcert: @/empty.pem", "sslrootcert: @/empty.pem holds no certificate (PEM)"),
        ("sslcert: @/gone.pem", "sslcert: @/gone.pem can't be read: No such file or directory"),
        (
            "sslcert: @/ours.pem\nsslkey: @/gone.key",
            "sslkey: @/gone.key can't be read: No such file or directory",
        ),
        (
            "sslcert: @/ours.pem\nsslkey: @/other.key",
            "sslkey: @/other.key is not the key of @/ours.pem",
        ),
        (
            f"sslcert: @/ours.pem\nsslkey: @/locked.key\nsslpassword: wrong{SECRET}",
            "sslkey: @/locked.key holds no private key that can be read",
        ),
        (
            "url: postgresql://h/d?sslmode=verify-full&sslrootcert=@/gone.pem",
            "sslrootcert: @/gone.pem can't be read: No such file or directory",
        ),
    ],
)
def test_bad_files_for_the_database(
    refused: Refused, folder: Path, tmp_path: Path, text: str, told: str
) -> None:
    """Files that libpq would go on without, or would stumble over for ever, are told at the start."""
    (tmp_path / "database_dev.yml").write_text(f"database: d\n{text.replace('@', str(folder))}\n")
    (problem,) = refused({"TEF_MANAGER_DB_CONFIG": str(tmp_path)})
    assert problem == f"TEF_MANAGER_DB_CONFIG: {tmp_path}/database_dev.yml: {told}"


@pytest.mark.parametrize(
    "text",
    [
        "sslmode: verify-full\nsslrootcert: @/ca.pem\nsslcert: @/ours.pem\nsslkey: @/ours.key",
        f"sslcert: @/ours.pem\nsslkey: @/locked.key\nsslpassword: {SECRET}",
        "sslrootcert: system",
        "sslcert: @/ours.pem\nsslkey: 'pkcs11:token'",
        "sslmode: disable\nsslrootcert: @/gone.pem",
    ],
)
def test_good_files_for_the_database(load: Load, folder: Path, tmp_path: Path, text: str) -> None:
    """What libpq can use is handed to it as it stands."""
    (tmp_path / "database_dev.yml").write_text(f"database: d\n{text.replace('@', str(folder))}\n")
    found = dict(load({"TEF_MANAGER_DB_CONFIG": str(tmp_path)}).database)
    written = dict(line.split(": ", 1) for line in text.splitlines())
    expected = {key: value.strip("'").replace("@", str(folder)) for key, value in written.items()}
    assert found == {"dbname": "d", **expected}
