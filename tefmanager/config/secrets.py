"""The last line of defence for secrets: a text that leaves the process shows none of those it knows. Pure.

What reads configuration quotes no secret in the first place. But texts of others (of servers, libraries
and tracebacks) may repeat what they were sent, and those pass through here.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from urllib.parse import quote, unquote

HIDDEN = "***"
"""What stands in the place of a secret."""

LEAST_PIECE = 4
"""Characters that a piece of a secret has at least to be hidden wherever it stands."""

_PUBLIC = frozenset({"guest"})
"""Passwords that everybody knows. To hide them would spoil texts, and hide nothing."""

_CUTS = re.compile(r"[\s/?#@:,;&=%|\\'\"\[\]]+")
"""Where a reader of URLs and the like would cut a secret that was not encoded."""


def passwords_in(urls: str) -> Iterator[str]:
    """Yield what may be the passwords in a text that is meant as a URL, or as several."""
    for url in re.split(r"[,\s]+(?=\w+://)", urls):
        account, at, _ = url.partition("://")[2].rpartition("@")
        password = account.partition(":")[2] if at else ""
        yield password
        yield unquote(password)


class Secrets:
    """Texts to hide, and what they look like on their way."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._known: set[str] = set()
        self._wanted: re.Pattern[str] | None = None
        self.learn(texts)

    def learn(self, texts: Iterable[str]) -> None:
        """Hide these as well from now on; empty ones are none."""
        known = self._known | {form for text in texts if text not in _PUBLIC for form in _forms(text)}
        if known != self._known:
            self._known = known
            longest_first = sorted(known, key=lambda form: (-len(form), form))
            self._wanted = re.compile("|".join(map(_pattern, longest_first)))

    def hide(self, text: str) -> str:
        """Return a text without any of them."""
        return text if self._wanted is None else self._wanted.sub(HIDDEN, text)


KNOWN = Secrets()
"""Those of this process."""


class Told(Exception):
    """Something that a service said or did. Its text is for people, and shows no secret."""

    def __init__(self, text: str = "") -> None:
        super().__init__(KNOWN.hide(text))


def _forms(secret: str) -> Iterator[str]:
    """Yield a secret as it may stand in a text: itself, encoded, escaped, and in pieces."""
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
    """Return what finds a form; a short one counts as a word only, or it would be found everywhere."""
    found = re.escape(form)
    return found if len(form) >= LEAST_PIECE else rf"(?<!\w){found}(?!\w)"
