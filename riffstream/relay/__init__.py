"""Relays: stations whose audio comes from another server over the public protocol. No torch."""
