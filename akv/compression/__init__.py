"""Gradient codecs with error feedback: pure arithmetic on numpy memory, no store, no asyncio, no sockets.

    codec = from_spec({"type": "2bit", "threshold": 0.5})
    packed = np.empty(codec.packed_nbytes(grad.size), np.uint8)
    codec.encode(grad, residuals.of("w", 0, grad), packed)      # at the sender
    codec.add_decoded(packed, total)                            # at the server: total += what was sent

A codec keeps nothing between calls, so one may serve any number of threads. What error feedback remembers is the
residual: the part of the gradients that has not been sent yet (Seide et al. 2014, "1-Bit Stochastic Gradient
Descent"; Karimireddy et al. 2019, "Error Feedback Fixes SignSGD"). It belongs to the sender.
"""

from __future__ import annotations

from akv.compression.bits import OneBit, TwoBit
from akv.compression.casts import BFloat16, Float16
from akv.compression.codec import Compression
from akv.compression.coded import Coded
from akv.compression.int8 import Int8
from akv.compression.residuals import Residuals
from akv.compression.scheme import Scheme
from akv.compression.spec import from_spec
from akv.compression.topk import TopK

__all__ = [
    "BFloat16",
    "Coded",
    "Compression",
    "Float16",
    "Int8",
    "OneBit",
    "Residuals",
    "Scheme",
    "TopK",
    "TwoBit",
    "from_spec",
]
