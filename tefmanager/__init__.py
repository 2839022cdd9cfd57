"""TEF manager: sends each test task to a free worker of its type, when all its resources are free."""

__version__ = "0.1.0"
