"""The last line of defence for secrets: no text that leaves the process contains a known one. Pure.

Code that reads configuration quotes no secret in the first place. But texts of others (of servers,
libraries and tracebacks) may repeat what they were sent, and those pass through here.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from urllib.parse import quote, unquote

HIDDEN = "***"
"""The replacement for a secret."""

LEAST_PIECE = 4
"""How many characters a piece of a secret must have to be hidden everywhere."""

_PUBLIC = frozenset({"guest"})
"""Passwords that everybody knows. Hiding them would spoil texts and protect nothing."""

_CUTS = re.compile(r"[\s/?#@:,;&=%|\\'\"\[\]]+")
"""Where a parser of URLs would cut a secret that was not encoded."""


def passwords_in(urls: str) -> Iterator[str]:
    """Yield possible passwords in a text that is meant as one URL or several."""
    for url in re.split(r"[,\s]+(?=\w+://)", urls):
        account, at, _ = url.partition("://")[2].rpartition("@")
        password = account.partition(":")[2] if at else ""
        yield password
        yield unquote(password)


class Secrets:
    """The texts to hide, in all forms in which they may occur."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._known: set[str] = set()
        self._wanted: re.Pattern[str] | None = None
        self.learn(texts)

    def learn(self, texts: Iterable[str]) -> None:
        """Hide these texts too from now on; empty ones are ignored."""
        known = self._known | {form for text in texts if text not in _PUBLIC for form in _forms(text)}
        if known != self._known:
            self._known = known
            longest_first = sorted(known, key=lambda form: (-len(form), form))
            self._wanted = re.compile("|".join(map(_pattern, longest_first)))

    def hide(self, text: str) -> str:
        """Return a text without any of them."""
        return text if self._wanted is None else self._wanted.sub(HIDDEN, text)


KNOWN = Secrets()
"""The secrets of this process."""


class Told(Exception):
    """Something that a service said or did. Its text is for people and shows no secret."""

    def __init__(self, text: str = "") -> None:
        super().__init__(KNOWN.hide(text))


def _forms(secret: str) -> Iterator[str]:
    """Yield the forms in which a secret may occur in a text: itself, encoded, escaped, and in pieces."""
    if not secret:
        return
    yield secret
    encoded = secret.encode("utf-8", "surrogatepass")
    yield from (quote(encoded, safe=""), quote(encoded), quote(encoded, safe="").lower())
    yield from (repr(secret)[1:-1], json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
    if len(secret) >= LEAST_PIECE:
        yield b64encode(encoded).decode().rstrip("=")
    yield from (piece for piece in _CUTS.split(secret) if len(piece) >= LEAST_PIECE)


def _pattern(form: str) -> str:
    """Return a pattern for a form; a short form matches whole words only, or it would be everywhere."""
    found = re.escape(form)
    return found if len(form) >= LEAST_PIECE else rf"(?<!\w){found}(?!\w)"
