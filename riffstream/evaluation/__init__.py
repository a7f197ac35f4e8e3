"""Measures of a model: probe, distances, tables, gallery."""
