"""What the core works with: values and entities, events that come in, effects that go out."""
