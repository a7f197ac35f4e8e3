"""The generator: a process of its own that renders jobs, and the messages to and from it."""
