"""Makes ``twistd tef-manager`` known to Twisted."""

from twisted.application.service import ServiceMaker

serviceMaker = ServiceMaker(  # type: ignore[no-untyped-call]
    "TEF manager",
    "tefmanager.tap",
    "Sends each test task to a free worker of its type, when all its resources are free.",
    "tef-manager",
)
