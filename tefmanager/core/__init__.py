"""All decisions, in pure code: events and clock readings in, row changes and effects out. No I/O."""
