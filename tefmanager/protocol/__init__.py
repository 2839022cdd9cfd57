"""What is said: messages that come in, and the catalogue of events that go out. Pure."""
