"""Reading and writing at a place in a file, where the system has one call for it and where not."""

from __future__ import annotations

import os

import pytest

from diskcache import host


@pytest.mark.parametrize(
    ("read", "write"), [(host.pread, host.pwrite), (host._pread, host._pwrite)]
)
def test_what_is_written_at_a_place_is_read_there(tmp_path, read, write):
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    try:
        assert write(descriptor, b"0123456789", 0) == 10
        assert write(descriptor, b"ab", 4) == 2

        assert read(descriptor, 4, 3) == b"3ab6"
        assert read(descriptor, 16, 8) == b"89"
        assert read(descriptor, 16, 99) == b""
    finally:
        os.close(descriptor)
