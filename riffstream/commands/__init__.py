"""The commands of the command line, one module each, loaded on use."""
