"""Uploaded seed images: folder, sandboxed decoding, and HTTP interface."""
