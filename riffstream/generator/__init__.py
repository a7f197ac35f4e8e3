"""The generator: a separate process that renders jobs, and the messages to and from it."""
