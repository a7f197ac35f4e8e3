"""Uploaded seed images: their folder, their sandboxed decoding, their HTTP interface."""
