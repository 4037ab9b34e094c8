"""What happens to a gradient before a formula uses it: rescaling, weight decay, clipping."""

from __future__ import annotations

import math

import numpy as np

from akv.optim.scratch import Array

__all__ = ["clipped", "decayed", "rescaled"]


def clipped(value: Array, bound: float, out: Array) -> Array:
    """`value` clipped to [-bound, bound], in `out`; an infinite bound returns `value` itself."""
    if bound == math.inf:
        return value
    np.maximum(value, -bound, out=out)
    return np.minimum(out, bound, out=out)


def rescaled(grad: Array, out: Array, rescale: float, bound: float) -> Array:
    """clip(rescale * grad), in `out`, or `grad` itself when there is nothing to do."""
    value = grad if rescale == 1.0 else np.multiply(grad, rescale, out=out)
    return clipped(value, bound, out)


def decayed(weight: Array, grad: Array, out: Array, spare: Array, rescale: float, bound: float, wd: float) -> Array:
    """clip(rescale * grad + wd * weight), in `out`, or `grad` itself when there is nothing to do."""
    value = grad if rescale == 1.0 else np.multiply(grad, rescale, out=out)
    if wd:
        np.multiply(weight, wd, out=spare)
        value = np.add(value, spare, out=out)
    return clipped(value, bound, out)
