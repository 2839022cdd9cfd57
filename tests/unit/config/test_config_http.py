"""Configuration of HTTP: where, whether it was asked for, and the token."""

from __future__ import annotations

from pathlib import Path

import pytest

from tefmanager.config.config import Config, ConfigError, HttpConfig, config_from

TOKEN = b"s3cret-token"


def load(folder: Path, options: dict[str, object], **variables: str) -> Config:
    """Load a configuration that is complete but for this."""
    (folder / "database_dev.yml").write_text("adapter: postgresql\ndatabase: tef\n")
    needed = {"TEF_AMQP_URL_DEV": "amqp://rabbit", "TEF_MANAGER_DB_CONFIG": str(folder)}
    return config_from(options, {**needed, **variables})


def test_the_default_was_not_asked_for(tmp_path: Path) -> None:
    """So it gives way where the place is taken."""
    assert load(tmp_path, {}).http == HttpConfig("tcp:8090:interface=127.0.0.1", asked=False)


@pytest.mark.parametrize("place", ["tcp:1234", "unix:/run/x y", "ssl:443:privateKey=a.pem"])
def test_a_place_that_was_asked_for(tmp_path: Path, place: str) -> None:
    """Whatever words Twisted knows for places pass."""
    assert load(tmp_path, {"http": place}).http == HttpConfig(place, asked=True)


def test_empty_is_nowhere(tmp_path: Path) -> None:
    """In each source, and it counts against the sources that come later."""
    ini = tmp_path / "x.ini"
    ini.write_text("[tef-manager]\nhttp =\n")
    assert load(tmp_path, {"config": str(ini)}).http.endpoint == ""
    ini.write_text("[tef-manager]\nhttp = tcp:1\n")
    assert load(tmp_path, {"config": str(ini)}, TEF_MANAGER_HTTP=" ").http.endpoint == ""
    assert load(tmp_path, {"http": ""}, TEF_MANAGER_HTTP="tcp:1").http.endpoint == ""


@pytest.mark.parametrize("place", ["8090", "127.0.0.1:8090", ":", "tcp:"])
def test_no_place(tmp_path: Path, place: str) -> None:
    """What can't be one is refused by its name."""
    with pytest.raises(ConfigError, match=r"^--http is '.*', expected where to listen, such as tcp:8090"):
        load(tmp_path, {"http": place})


def test_the_token(tmp_path: Path) -> None:
    """It is what the file holds, without the end of the line, and nothing shows it."""
    file = tmp_path / "token"
    file.write_bytes(TOKEN + b"\n")
    file.chmod(0o640)
    config = load(tmp_path, {"http-token-file": str(file)})
    assert config.http.token == TOKEN
    assert TOKEN.decode() not in repr(config)
    assert config.warnings == ()


@pytest.mark.parametrize("mode", [0o644, 0o666, 0o660, 0o604, 0o602])
def test_a_token_that_others_can_read(tmp_path: Path, mode: int) -> None:
    """It is taken, and that is told at the start."""
    file = tmp_path / "token"
    file.write_bytes(TOKEN)
    file.chmod(mode)
    config = load(tmp_path, {"http-token-file": str(file)})
    assert config.http.token == TOKEN
    assert f"{file} has the mode {mode:04o}" in " ".join(config.warnings)


@pytest.mark.parametrize("token", [b"x", b"eleven-byte"])
def test_a_token_that_could_be_guessed(tmp_path: Path, token: bytes) -> None:
    """It is refused, and not shown."""
    file = tmp_path / "token"
    file.write_bytes(token + b"\n")
    with pytest.raises(
        ConfigError, match=r"holds a token of \d+ characters, expected at least 12"
    ) as caught:
        load(tmp_path, {"http-token-file": str(file)})
    assert token.decode() not in str(caught.value).replace("expected", "")


def test_other_names(tmp_path: Path) -> None:
    """Names by which the page is reached are hosts, without ports."""
    assert load(tmp_path, {"http-host": ["grid", "a.example, b.example", "[::2]"]}).http.hosts == (
        *("grid", "a.example", "b.example"),
        "::2",
    )
    for bad in ("http://grid", "grid/x", "a b", "-"):
        with pytest.raises(ConfigError, match=r"--http-host is .* expected names or addresses"):
            load(tmp_path, {"http-host": bad})


@pytest.mark.parametrize("content", [b"", b" \n", b"two words", b"\xff\xfe", b"line\nline", b"\x00"])
def test_no_token(tmp_path: Path, content: bytes) -> None:
    """What could not be typed or sent is refused, and not shown."""
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"token holds no token: printable ASCII characters") as caught:
        load(tmp_path, {"http-token-file": str(file)})
    assert str(caught.value).isprintable()


def test_a_token_that_is_not_there(tmp_path: Path) -> None:
    """The start ends, since somebody wanted to be able to do something."""
    with pytest.raises(ConfigError, match=r"http-token-file: .*/none can't be read: No such file"):
        load(tmp_path, {"http-token-file": str(tmp_path / "none")})
