"""Who listens at a queue, as the broker tells."""

from __future__ import annotations

from msgspec import Struct


class Audience(Struct, frozen=True):
    """Who listens at a queue.

    Attributes:
        there: there is such a queue.
        consumers: how many consume it.
        messages: how many messages wait in it for a consumer.
    """

    there: bool
    consumers: int
    messages: int
