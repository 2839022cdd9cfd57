"""The core's data: values and entities, incoming events, outgoing effects."""
