"""Turns the answers of RabbitMQ and Etcd into events for the core."""

from __future__ import annotations

from tefmanager.core.model import events
from tefmanager.core.model.reservations import Granted, Impossible, Outcome, Refused
from tefmanager.interfaces.amqp import Delivered


def event_of_dispatch(attempt: int, outcome: Delivered, reason: str) -> events.Event:
    """Return the event for the outcome of a dispatch."""
    match outcome:
        case Delivered.CONFIRMED:
            return events.DispatchConfirmed(attempt)
        case Delivered.LOST:
            return events.DispatchUncertain(attempt)
        case Delivered.RETURNED | Delivered.NACKED:
            return events.DispatchFailed(attempt, reason)
        case Delivered.REFUSED:
            return events.DispatchImpossible(attempt, reason)


def event_of_claim(outcome: Outcome) -> events.Event:
    """Return the event for Etcd's answer to a reservation."""
    match outcome:
        case Granted(attempt, reserved):
            return events.ReservationGranted(attempt, reserved)
        case Refused(attempt, short):
            return events.ReservationRefused(attempt, short)
        case Impossible(attempt, reason):
            return events.ReservationImpossible(attempt, reason)
