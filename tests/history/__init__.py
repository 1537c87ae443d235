"""Recorded histories of many processes, and a checker that tells whether they can be true."""
