"""Named SQL statements from the ``.sql`` files beside this module.

A file contains any number of queries. Each begins with ``-- name: <name>``, then a line that states its
purpose, then one statement. ``{t}`` stands for the table prefix; parameters are ``$1``, ``$2`` and so on,
each with its type. Rows are passed as one JSON array of objects.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources

from tefmanager.store.names import checked_prefix

_HEADER = re.compile(r"^-- name: (?P<name>\w+)\n-- (?P<purpose>.+)\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Query:
    """One statement.

    Attributes:
        name: unique among all files; also the prepared statement's name.
        purpose: one line for people.
        sql: the statement with its tables' names, without a semicolon.
        parameters: number of parameters.
    """

    name: str
    purpose: str
    sql: str
    parameters: int

    @property
    def prepare(self) -> str:
        """The statement that makes the server parse and plan this query, once per session."""
        return f"prepare {self.name} as {self.sql}"

    @property
    def execute(self) -> str:
        """The template for ``mogrify`` that runs the prepared query."""
        places = ", ".join(["%s"] * self.parameters)
        return f"execute {self.name}({places})" if places else f"execute {self.name}"


def parse(text: str, table_prefix: str) -> Iterator[Query]:
    """Yield the queries in a file's text. Raises `ValueError` for text outside of a query."""
    named = text.replace("{t}", checked_prefix(table_prefix))
    headers = list(_HEADER.finditer(named))
    if not headers or headers[0].start() != 0:
        raise ValueError("a file of queries must begin with '-- name: …' and a line of purpose")
    ends = [header.start() for header in headers[1:]] + [len(named)]
    for header, end in zip(headers, ends, strict=True):
        sql = named[header.end() : end].strip().removesuffix(";")
        numbers = [int(number) for number in re.findall(r"\$(\d+)", sql)]
        yield Query(header["name"], header["purpose"], sql, max(numbers, default=0))


def load_queries(table_prefix: str) -> Mapping[str, Query]:
    """Read all of the program's queries, by name."""
    found: dict[str, Query] = {}
    for file in sorted((resources.files(__package__) / "sql").iterdir(), key=lambda file: file.name):
        for query in parse(file.read_text("utf-8"), table_prefix):
            if query.name in found:
                raise ValueError(f"two queries are named {query.name}")
            found[query.name] = query
    return found
