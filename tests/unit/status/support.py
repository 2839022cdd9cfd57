"""The source of views in unit tests: a manager that has only a core."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tefmanager.core.core import Core
from tefmanager.core.model.events import Commanded
from tefmanager.inquiry.questions import Question


class Source:
    """A manager as far as views need it.

    Attributes:
        asked: questions, with the answers that a test may give.
    """

    def __init__(self, core: Core | None) -> None:
        self.core = core
        self.turn_began: float | None = None
        self.commands: list[Commanded] = []
        self.asked: list[tuple[Question, Deferred[object]]] = []

    def command(self, event: Commanded) -> bool:
        """Keep the command, if this manager is active."""
        self.commands.append(event)
        return self.core is not None

    def ask(self, question: Question) -> Deferred[object] | None:
        """Keep the question, if this manager is active."""
        if self.core is None:
            return None
        self.asked.append((question, Deferred()))
        return self.asked[-1][1]
