"""Decides: pure functions and values. No I/O, no clock, no dice, no threads, no asyncio."""
