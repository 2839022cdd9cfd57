"""Who consumes a queue, as the broker reports."""

from __future__ import annotations

from msgspec import Struct


class Audience(Struct, frozen=True):
    """Who consumes a queue.

    Attributes:
        there: the queue exists.
        consumers: number of consumers.
        messages: number of messages that wait for a consumer.
    """

    there: bool
    consumers: int
    messages: int
