"""Moves things along: consume, decode, match, deliver, settle, commit."""
