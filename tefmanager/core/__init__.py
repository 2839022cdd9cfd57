"""The brain, pure: events and a clock reading in, row changes and effects out. No I/O."""
