"""Values and keys to bytes, and back, without trusting the bytes.

`plain` is the data-only encoding, `keys` makes equal keys equal bytes, `signing` vouches for
pickles, and `values` puts the three together under one policy.
"""

from diskcache.codecs.base import (
    MODE_BINARY,
    MODE_DATA,
    MODE_NONE,
    MODE_PICKLE,
    MODE_RAW,
    MODE_TEXT,
    Codec,
)
from diskcache.codecs.signing import Keyring, Signer
from diskcache.codecs.values import ValueCodec

__all__ = [
    "MODE_BINARY",
    "MODE_DATA",
    "MODE_NONE",
    "MODE_PICKLE",
    "MODE_RAW",
    "MODE_TEXT",
    "Codec",
    "Keyring",
    "Signer",
    "ValueCodec",
]
