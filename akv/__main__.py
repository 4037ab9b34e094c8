"""`python -m akv` is `akv`."""

from __future__ import annotations

import sys

from akv.cli import main

if __name__ == "__main__":
    sys.exit(main())
