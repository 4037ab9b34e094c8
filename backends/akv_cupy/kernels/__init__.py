"""CUDA kernels whose formulas are the loops that numba compiles on the CPU, translated to CUDA C.

    one = kernel(loop_of(optimizer.formula), weight.dtype)
    blocks, threads = one.grid(weight.size)                     # the same for sums, gather, encoding, ...

Nothing here needs a GPU, CuPy or NVRTC: a `Kernel` is text, and a description of its arguments. To launch one:

- Compile `source` with `options` and the architecture, once per device. It has no includes.
- The C function `name` takes a `long long` first, the number of elements (which a loop writes as `weight.size`), then
  what `params` says: of an array the address of its first element, aligned to its dtype, C-contiguous; of a scalar a
  double or a long long.
- `grid(size)` gives blocks and threads. Loops run over the whole grid, so any grid is right, with two exceptions:
  `threads` is a power of two and at most what `grid` says, and a kernel with `squares` gets `squares[:blocks]` of a
  float64 array of shape (SUM_BLOCKS, 2), zeroed before, which `loops.fold` adds up. Sums depend on the grid, which
  depends on the size alone: the same bits on every run and every card.
- No shared memory is asked for at the launch. Nothing is checked on the device: sizes, rows and addresses are the
  caller's business.
- An array may be passed twice where all is done element by element (`sums` onto one of its arrays).

`reference` does the same on numpy arrays, called with the same arguments, without the number of elements.

What the parts do: `loops`, `codecs`, `halves` are the formulas that the CPU has not as loops; `subset`, `kinds`,
`expressions`, `elements`, `statements`, `body` translate; `recipe`, `source`, `making` put kernels together;
`references` runs loops on numpy; `codings` knows the codecs of `akv.compression`.
"""

from __future__ import annotations

from akv_cupy.kernels.catalogue import MOST_SUMMED, gather, scatter, sum_segments, sums
from akv_cupy.kernels.codings import Coding, decoding, encoding
from akv_cupy.kernels.description import OPTIONS, THREADS, Kernel, Param
from akv_cupy.kernels.making import SUM_BLOCKS, kernel, loop_of, many, table
from akv_cupy.kernels.subset import NotTranslatable

__all__ = [
    "MOST_SUMMED",
    "OPTIONS",
    "SUM_BLOCKS",
    "THREADS",
    "Coding",
    "Kernel",
    "NotTranslatable",
    "Param",
    "decoding",
    "encoding",
    "gather",
    "kernel",
    "loop_of",
    "many",
    "scatter",
    "sum_segments",
    "sums",
    "table",
]
