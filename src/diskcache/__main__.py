"""`python -m diskcache`: the command line, see `diskcache.cli.main`."""

from __future__ import annotations

import sys

from diskcache.cli.main import main

# The demo's worker processes import this module anew under another name.
if __name__ == "__main__":
    sys.exit(main())
