"""Tests of diskcache; see CONTRIBUTING.md for how they are written."""
