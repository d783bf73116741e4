"""Touches the world: each outside library behind exactly one of these doors."""
