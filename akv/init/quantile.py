"""The inverse of the normal distribution, with the same bits on every machine.

PPND7 of M. J. Wichura, "Algorithm AS 241: The percentage points of the normal distribution", Applied Statistics 37
(1988), 477-484: three rational functions, for the middle, the tails and the far tails, right to one part in 10**7.
Only sums, products, quotients and square roots are used, which IEEE 754 prescribes to the last bit; numpy's log, sin
and cos differ in it from one processor to the next.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["quantile"]

Floats = NDArray[np.float64]

_CENTRAL = (
    (59.10937472, 159.29113202, 50.434271938, 3.3871327179),
    (67.1875636, 78.757757664, 17.895169469, 1.0),
)
_TAIL = (
    (0.17023821103, 1.3067284816, 2.75681539, 1.4234372777),
    (0.0, 0.12021132975, 0.7370016425, 1.0),
)
_FAR_TAIL = (
    (0.017337203997, 0.42868294337, 3.081226386, 6.657905115),
    (0.0, 0.012258202635, 0.24197894225, 1.0),
)
_LN2 = 0.6931471805599453
# 2 * atanh(s) = 2 s (1 + s**2/3 + s**4/5 + ...); s**2 is at most 0.0295, so what is left out is below 1e-17.
_ATANH = tuple(1 / (2 * k + 1) for k in reversed(range(11)))


def quantile(p: Floats) -> Floats:
    """The z with P(Z < z) = p for a standard normal Z; a fresh array. All of `p` lie strictly between 0 and 1."""
    q = p - 0.5
    r = 0.180625 - q * q
    z = _rational(_CENTRAL, r)
    z *= q
    outer = np.flatnonzero(r < 0)
    if outer.size:
        z.flat[outer] = _outer(p.flat[outer], q.flat[outer])
    return z


def _outer(p: Floats, q: Floats) -> Floats:
    """Where p lies within 0.075 of 0 or 1."""
    r = np.sqrt(-_log(np.minimum(p, 1 - p)))
    z = np.where(r <= 5, _rational(_TAIL, r - 1.6), _rational(_FAR_TAIL, r - 5))
    return np.where(q < 0, -z, z)


def _log(x: Floats) -> Floats:
    """The natural logarithm of positive numbers, to some 1e-16 of itself."""
    mantissa, exponent = np.frexp(x)
    low = mantissa < 0.7071067811865476
    mantissa = np.where(low, 2 * mantissa, mantissa)
    s = (mantissa - 1) / (mantissa + 1)
    total: Floats = 2 * s * _polynomial(_ATANH, s * s) + (exponent - low) * _LN2
    return total


def _rational(coefficients: tuple[Sequence[float], Sequence[float]], x: Floats) -> Floats:
    above, below = coefficients
    top = _polynomial(above, x)
    top /= _polynomial(below, x)
    return top


def _polynomial(coefficients: Sequence[float], x: Floats) -> Floats:
    """By Horner's rule, the highest power first."""
    first, second, *rest = coefficients
    total = first * x
    total += second
    for coefficient in rest:
        total *= x
        total += coefficient
    return total
