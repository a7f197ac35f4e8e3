"""Generators on a Ray cluster: the actor, the bridge from the pipe to it, and a cluster of this machine."""
