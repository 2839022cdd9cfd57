"""Finds settings: options take precedence over environment, file and defaults, in this order. Pure."""

from __future__ import annotations

import configparser
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tefmanager.config import settings
from tefmanager.config.kinds import ONE_LINE, URL, Environment, shown, shown_name, shown_path
from tefmanager.config.secrets import passwords_in
from tefmanager.config.settings import SECTION, SETTINGS, Setting

T = TypeVar("T")

_SURROGATE = re.compile("[\ud800-\udfff]")
"""What Python makes of bytes in the environment that are not UTF-8."""


class ConfigError(Exception):
    """The configuration can't be used.

    Attributes:
        problems: all mistakes, for people: which variable, option or file, what was found (never a
            password), what is expected. Joined, they are one line.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Found:
    """The text of a setting, and where it was found: "--bind", "TEF_ENV", "/etc/x.ini: env"."""

    text: str = field(repr=False)
    where: str


@dataclass
class Sources:
    """Everything that was given, and the problems found while reading it.

    Attributes:
        options: options of the command line by name; None, False, 0 or empty if not given.
        environ: the environment variables.
        file: the contents of the INI file, by name.
        env: the environment in use: "dev", "test" or "prod".
        substitutes: replacements for ``<env>`` and the like.
        problems: the problems so far.
        warnings: what is allowed, but probably a mistake or not safe.
    """

    options: Mapping[str, object]
    environ: Mapping[str, str]
    file: Mapping[str, Found] = field(default_factory=dict)
    env: str = "dev"
    substitutes: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def find(self, setting: Setting[T]) -> Found | None:
        """Return the text of a setting from the source that takes precedence, or None if it is not set."""
        return self._option(setting) or self._variable(setting) or self.file.get(setting.name)

    def _option(self, setting: Setting[T]) -> Found | None:
        given = self.options.get(setting.name) if setting.option else None
        if not given and not (given == "" and setting.may_be_empty):
            return None
        if isinstance(given, list):
            return Found("\n".join(given), f"--{setting.name}")
        return Found("yes" if given in (1, True) else str(given).strip(), f"--{setting.name}")

    def _variable(self, setting: Setting[T]) -> Found | None:
        names = setting.variable_names(self.env)
        found = (Found(self.environ[name].strip(), name) for name in names if name in self.environ)
        return next((each for each in found if each.text or setting.may_be_empty), None)

    def is_set(self, name: str) -> bool:
        """Tell whether a variable is set and not empty."""
        return bool(self.environ.get(name, "").strip())

    def optional(self, setting: Setting[T]) -> T | None:
        """Return the value of a setting, or None if it is not set, or is wrong (which adds a problem)."""
        found = self.find(setting)
        if found is None:
            return self._parse(setting, Found(setting.default, "default")) if setting.default else None
        return self._parse(setting, found)

    def value(self, setting: Setting[T]) -> T:
        """Return the value of a setting; if it is wrong, add a problem and return the default."""
        value = self.optional(setting)
        return setting.kind.parse(self.substituted(setting.default)) if value is None else value

    def _parse(self, setting: Setting[T], found: Found) -> T | None:
        if setting.secret and not self.is_text(found):
            return None
        try:
            # A password may contain anything, even "<env>".
            text = found.text if setting.secret else self.substituted(found.text)
            return setting.kind.parse(text)
        except ValueError:
            what = "can't be read" if setting.secret else f"is {shown(found.text)}"
            self.problems.append(f"{found.where} {what}, expected {setting.kind.expected}")
            return None

    def is_text(self, found: Found) -> bool:
        """Tell whether a text is UTF-8 without NUL; add a problem if it is not."""
        fault = "is not UTF-8" if _SURROGATE.search(found.text) else "holds a NUL"
        if faulty := "\0" in found.text or fault == "is not UTF-8":
            self.problems.append(f"{found.where} {fault}, expected text")
        return not faulty

    def secrets(self) -> Iterator[str]:
        """Yield everything in the sources that may be a password, whether it could be parsed or not."""
        for setting in SETTINGS.values():
            found = self.find(setting) if setting.secret else None
            if found is not None:
                yield from passwords_in(found.text) if setting.kind is URL else (found.text,)

    def substituted(self, text: str) -> str:
        """Return a text with ``<env>`` and the like replaced."""
        for name, replacement in self.substitutes.items():
            text = text.replace(name, replacement)
        return text


_OWN = "TEF_MANAGER_"
_OTHER_PROGRAMS = frozenset({"TEF_MANAGER_CRASH_AT", "TEF_WORK_NODE_ROOT_LOCATION"})
"""Variables that others read: the manager's tests, and workers."""


def doubtful_variables(sources: Sources) -> Iterator[str]:
    """Yield warnings for variables that are probably mistakes; none of them has an effect."""
    known: set[str] = set()
    for setting in SETTINGS.values():
        known.update(name for env in Environment for name in setting.variable_names(env))
        given = [
            name for name in dict.fromkeys(setting.variable_names(sources.env)) if sources.is_set(name)
        ]
        if len({sources.environ[name] for name in given}) > 1:
            yield f"{given[0]} is used; {' and '.join(given[1:])} with another value has no effect"
    for name in sorted(set(sources.environ) - known - _OTHER_PROGRAMS):
        alike = difflib.get_close_matches(
            name.upper(), known, n=1, cutoff=0.6 if name.startswith(_OWN) else 0.93
        )
        if name.startswith(_OWN) or (alike and name.upper().startswith("TEF_")):
            hint = f" (did you mean {alike[0]}?)" if alike else ""
            yield f"{shown_name(name)} is not a setting and has no effect{hint}"


def nearest(word: str, words: Iterable[str]) -> str:
    """Return a hint, " (did you mean …?)", or an empty text if no word is similar."""
    close = difflib.get_close_matches(word, list(words), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def read_ini(path: Path) -> dict[str, Found]:
    """Return the contents of an INI file, by setting; raises `ConfigError`."""
    parser = configparser.ConfigParser(
        interpolation=None, delimiters=("=",), default_section="", comment_prefixes=("#", ";")
    )
    name = shown_path(path)
    try:
        parser.read_string(path.read_text("utf-8-sig"))
    except OSError as error:
        raise ConfigError([f"{name} can't be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{name} is not UTF-8"]) from None
    except configparser.Error as error:
        raise ConfigError([f"{name}:{_line(error)}: {_fault(error)}"]) from None
    problems = list(_strangers(name, parser))
    if problems:
        raise ConfigError(problems)
    return dict(_entries(name, parser))


def _strangers(name: str, parser: configparser.ConfigParser) -> Iterator[str]:
    known = [key for key, setting in SETTINGS.items() if setting.in_file]
    for section in parser.sections():
        if section != SECTION:
            yield f"{name}: unknown section [{shown_name(section)}], expected [{SECTION}]"
            continue
        for key in parser[section]:
            twin = next((each for each in parser[section] if _spelled(each) == _spelled(key)), key)
            if twin != key:
                yield f"{name}: {shown_name(twin)} and {shown_name(key)} are the same setting, expected one"
            elif _spelled(key) not in known:
                yield f"{name}: unknown key {shown_name(key)}{nearest(_spelled(key), known)}"
            elif fault := _misread(SETTINGS[_spelled(key)], parser[section][key]):
                yield f"{name}: {shown_name(key)} {fault}"


def _misread(setting: Setting[object], text: str) -> str:
    """Return what is wrong with a value; the parser appends an indented line to the line before."""
    if "\0" in text:
        return "holds a NUL, expected text"
    if "\n" in text.strip() and setting.kind in ONE_LINE:
        return "continues on an indented line, expected one line"
    return ""


def _entries(name: str, parser: configparser.ConfigParser) -> Iterator[tuple[str, Found]]:
    for key, text in parser[SECTION].items() if SECTION in parser else ():
        setting = SETTINGS[_spelled(key)]
        if text.strip() or setting.may_be_empty:
            yield setting.name, Found(text.strip(), f"{name}: {key}")


def _spelled(key: str) -> str:
    return key.replace("_", "-")


def _line(error: configparser.Error) -> int:
    """Return the line number of a fault in an INI file; the parser's own text would quote the line."""
    if isinstance(error, configparser.MissingSectionHeaderError) or not isinstance(
        error, configparser.ParsingError
    ):
        return int(getattr(error, "lineno", None) or 0)
    return int(error.errors[0][0])


def _fault(error: configparser.Error) -> str:
    match error:
        case configparser.DuplicateOptionError():
            return f"{shown_name(error.option)} occurs a second time"
        case configparser.DuplicateSectionError():
            return f"[{shown_name(str(error.section))}] occurs a second time"
        case configparser.MissingSectionHeaderError():
            return f"expected [{SECTION}] before the first key"
    return "expected 'key = value'"


def gather(options: Mapping[str, object], environ: Mapping[str, str]) -> Sources:
    """Read all sources, determine the environment, and return them. Mistakes are in ``problems``."""
    sources = Sources(options, environ)
    config = sources.find(settings.CONFIG)
    if config is not None:
        try:
            sources.file = read_ini(Path(config.text))
        except ConfigError as error:
            sources.problems.extend(f"{config.where}: {problem}" for problem in error.problems)
    sources.env = str(sources.value(settings.ENV))
    sources.warnings.extend(doubtful_variables(sources))
    sources.substitutes["<env>"] = sources.env
    return sources
