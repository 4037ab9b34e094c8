"""akv's store in GPU memory, through CuPy: `cupy://0`, or `cupy://0,1` for values spread over two devices.

Nothing here imports cupy: `akv_cupy.cuda` does, when a store is opened.
"""

from __future__ import annotations

import os

from akv_cupy.provider import Provider

__all__ = ["backend"]

backend = Provider()

if hasattr(os, "register_at_fork"):
    # A child starts without stores.
    os.register_at_fork(after_in_child=backend.__init__)  # type: ignore[misc]
