"""Rolling archive: the encoded audio of the last hours on disk, and downloads of any span of it."""
