"""The formulas once more, as one pass over memory: loops that numba compiles.

Plain functions of (weight, grad, *state, *scalars) on flat contiguous arrays of one dtype. This module does not
import numba; `compiled` does, and reads the types from the annotations. Each loop does the operations of its formula
in the same order, so that the results are equal to the bit (numba contracts nothing to FMA unless asked to); only the
norms, which are sums, are not. Branches are selections, because only those are vectorised. As with numpy, clipping lets
NaN pass, and no decay leaves an infinite weight alone.
"""

from __future__ import annotations

import math
from typing import Any

from akv.optim.scratch import Array

Written = Array
Read = Array  # compiled for read-only arrays, in whose place numba takes any; else each mixture would be compiled
Squares = Array  # float64, whatever the others are
Number = Any


def add(weight: Written, grad: Read, copy: Written, rescale: Number) -> None:
    rescale = weight.dtype.type(rescale)
    for i in range(weight.size):
        weight[i] += grad[i] * rescale
        copy[i] = weight[i]


def descend(weight: Written, grad: Read, rate: Number, bound: Number, wd: Number) -> None:
    real = weight.dtype.type
    rate, bound, keep = real(rate), real(bound), real(1.0 - wd)
    for i in range(weight.size):
        step = grad[i] * rate
        step = -bound if step < -bound else (bound if step > bound else step)
        weight[i] = weight[i] * keep - step


def descend_with_momentum(
    weight: Written, grad: Read, m: Written, rate: Number, bound: Number, wd: Number, momentum: Number
) -> None:
    real = weight.dtype.type
    zero = real(0.0)
    rate, bound, wd, momentum = real(rate), real(bound), real(wd), real(momentum)
    for i in range(weight.size):
        step = grad[i] * rate
        step = -bound if step < -bound else (bound if step > bound else step)
        m[i] = m[i] * momentum - step - (weight[i] * wd if wd else zero)
        weight[i] += m[i]


def look_ahead(
    weight: Written, grad: Read, m: Written, rate: Number, bound: Number, wd: Number, momentum: Number
) -> None:
    real = weight.dtype.type
    zero = real(0.0)
    rate, bound, wd, momentum = real(rate), real(bound), real(wd), real(momentum)
    for i in range(weight.size):
        step = grad[i] * rate
        step = -bound if step < -bound else (bound if step > bound else step)
        step = step + (weight[i] * wd if wd else zero)
        m[i] = m[i] * momentum - step
        weight[i] = weight[i] - step + m[i] * momentum


def adam(
    weight: Written,
    grad: Read,
    mean: Written,
    var: Written,
    rate: Number,
    beta1: Number,
    beta2: Number,
    epsilon: Number,
    rescale: Number,
    bound: Number,
    wd: Number,
) -> None:
    real = weight.dtype.type
    zero = real(0.0)
    new1, new2, beta1, beta2 = real(1.0 - beta1), real(1.0 - beta2), real(beta1), real(beta2)
    rate, epsilon, rescale, bound, wd = real(rate), real(epsilon), real(rescale), real(bound), real(wd)
    for i in range(weight.size):
        g = grad[i] * rescale + (weight[i] * wd if wd else zero)
        g = -bound if g < -bound else (bound if g > bound else g)
        mean[i] = mean[i] * beta1 + g * new1
        var[i] = var[i] * beta2 + g * g * new2
        weight[i] -= mean[i] / (math.sqrt(var[i]) + epsilon) * rate


def adamw(
    weight: Written,
    grad: Read,
    mean: Written,
    var: Written,
    rate: Number,
    beta1: Number,
    beta2: Number,
    epsilon: Number,
    rescale: Number,
    bound: Number,
    wd: Number,
) -> None:
    real = weight.dtype.type
    new1, new2, beta1, beta2 = real(1.0 - beta1), real(1.0 - beta2), real(beta1), real(beta2)
    rate, epsilon, rescale, bound, keep = real(rate), real(epsilon), real(rescale), real(bound), real(1.0 - wd)
    for i in range(weight.size):
        g = grad[i] * rescale
        g = -bound if g < -bound else (bound if g > bound else g)
        mean[i] = mean[i] * beta1 + g * new1
        var[i] = var[i] * beta2 + g * g * new2
        weight[i] = weight[i] * keep - mean[i] / (math.sqrt(var[i]) + epsilon) * rate


def adagrad(
    weight: Written,
    grad: Read,
    history: Written,
    rate: Number,
    epsilon: Number,
    rescale: Number,
    bound: Number,
    wd: Number,
) -> None:
    real = weight.dtype.type
    rate, epsilon, rescale, bound, keep = real(rate), real(epsilon), real(rescale), real(bound), real(1.0 - wd)
    for i in range(weight.size):
        g = grad[i] * rescale
        g = -bound if g < -bound else (bound if g > bound else g)
        history[i] += g * g
        weight[i] = weight[i] * keep - g / math.sqrt(history[i] + epsilon) * rate


def adadelta(
    weight: Written,
    grad: Read,
    grads: Written,
    deltas: Written,
    rate: Number,
    rho: Number,
    epsilon: Number,
    rescale: Number,
    bound: Number,
    wd: Number,
) -> None:
    real = weight.dtype.type
    new, rho, keep = real(1.0 - rho), real(rho), real(1.0 - wd)
    rate, epsilon, rescale, bound = real(rate), real(epsilon), real(rescale), real(bound)
    for i in range(weight.size):
        g = grad[i] * rescale
        g = -bound if g < -bound else (bound if g > bound else g)
        grads[i] = grads[i] * rho + g * g * new
        delta = math.sqrt((deltas[i] + epsilon) / (grads[i] + epsilon)) * g
        deltas[i] = deltas[i] * rho + delta * delta * new
        weight[i] = weight[i] * keep - delta * rate


def rmsprop(
    weight: Written,
    grad: Read,
    n: Written,
    rate: Number,
    gamma1: Number,
    epsilon: Number,
    rescale: Number,
    bound: Number,
    wd: Number,
    limit: Number,
) -> None:
    real = weight.dtype.type
    zero = real(0.0)
    new, gamma1, wd, limit = real(1.0 - gamma1), real(gamma1), real(wd), real(limit)
    rate, epsilon, rescale, bound = real(rate), real(epsilon), real(rescale), real(bound)
    for i in range(weight.size):
        g = grad[i] * rescale + (weight[i] * wd if wd else zero)
        g = -bound if g < -bound else (bound if g > bound else g)
        n[i] = n[i] * gamma1 + g * g * new
        w = weight[i] - g / math.sqrt(n[i] + epsilon) * rate
        weight[i] = -limit if w < -limit else (limit if w > limit else w)


def rmsprop_centered(
    weight: Written,
    grad: Read,
    n: Written,
    mean: Written,
    delta: Written,
    rate: Number,
    gamma1: Number,
    epsilon: Number,
    rescale: Number,
    bound: Number,
    wd: Number,
    limit: Number,
    gamma2: Number,
) -> None:
    real = weight.dtype.type
    new, gamma1, gamma2, wd, limit = real(1.0 - gamma1), real(gamma1), real(gamma2), real(wd), real(limit)
    rate, epsilon, rescale, bound, zero = real(rate), real(epsilon), real(rescale), real(bound), real(0.0)
    for i in range(weight.size):
        g = grad[i] * rescale + (weight[i] * wd if wd else zero)
        g = -bound if g < -bound else (bound if g > bound else g)
        n[i] = n[i] * gamma1 + g * g * new
        mean[i] = mean[i] * gamma1 + g * new
        variance = n[i] - mean[i] * mean[i]
        variance = zero if variance < zero else variance
        delta[i] = delta[i] * gamma2 - g / math.sqrt(variance + epsilon) * rate
        w = weight[i] + delta[i]
        weight[i] = -limit if w < -limit else (limit if w > limit else w)


def ftrl(
    weight: Written,
    grad: Read,
    z: Written,
    n: Written,
    rate: Number,
    lamda1: Number,
    beta: Number,
    rescale: Number,
    bound: Number,
    wd: Number,
) -> None:
    if rate == 0.0:
        return
    real = weight.dtype.type
    inverse, lamda1, beta = real(1.0 / rate), real(lamda1), real(beta)
    rescale, bound, wd = real(rescale), real(bound), real(wd)
    for i in range(weight.size):
        g = grad[i] * rescale
        g = -bound if g < -bound else (bound if g > bound else g)
        root = math.sqrt(n[i])
        n[i] += g * g
        grown = math.sqrt(n[i])
        dual = z[i] + g - (grown - root) * weight[i] * inverse
        z[i] = dual
        near = -lamda1 if dual < -lamda1 else (lamda1 if dual > lamda1 else dual)
        weight[i] = (near - dual) / ((grown + beta) * inverse + wd)


def signsgd(weight: Written, grad: Read, rate: Number, rescale: Number, shrink: Number) -> None:
    real = weight.dtype.type
    rate, rescale, keep = real(rate), real(rescale), real(1.0 - shrink)
    zero, one = real(0.0), real(1.0)
    for i in range(weight.size):
        g = grad[i] * rescale
        sign = one if g > zero else (-one if g < zero else (zero if g == zero else g))
        weight[i] = weight[i] * keep - sign * rate


def signum(
    weight: Written,
    grad: Read,
    m: Written,
    rate: Number,
    rescale: Number,
    bound: Number,
    shrink: Number,
    wd: Number,
    momentum: Number,
) -> None:
    real = weight.dtype.type
    new, wd, momentum = real(1.0 - momentum), real((1.0 - momentum) * wd), real(momentum)
    rate, rescale, bound, keep = real(rate), real(rescale), real(bound), real(1.0 - shrink)
    zero, one = real(0.0), real(1.0)
    for i in range(weight.size):
        g = grad[i] * rescale
        g = -bound if g < -bound else (bound if g > bound else g)
        m[i] = m[i] * momentum - g * new - (weight[i] * wd if wd else zero)
        sign = one if m[i] > zero else (-one if m[i] < zero else (zero if m[i] == zero else m[i]))
        weight[i] = weight[i] * keep + sign * rate


def lamb(
    weight: Written,
    grad: Read,
    mean: Written,
    var: Written,
    rate: Number,
    beta1: Number,
    beta2: Number,
    epsilon: Number,
    rescale: Number,
    bound: Number,
    wd: Number,
    correct: Number,
) -> None:
    real = weight.dtype.type
    zero = real(0.0)
    new1, new2, beta1, beta2 = real(1.0 - beta1), real(1.0 - beta2), real(beta1), real(beta2)
    rate, epsilon, rescale, bound = real(rate), real(epsilon), real(rescale), real(bound)
    wd, correct = real(wd), real(correct)
    for i in range(weight.size):
        g = grad[i] * rescale
        g = -bound if g < -bound else (bound if g > bound else g)
        mean[i] = mean[i] * beta1 + g * new1
        var[i] = var[i] * beta2 + g * g * new2
        step = mean[i] / (math.sqrt(var[i]) + epsilon) * correct + (weight[i] * wd if wd else zero)
        weight[i] -= step * rate


def lamb_norms(
    weight: Read,
    grad: Read,
    mean: Read,
    var: Read,
    beta1: Number,
    beta2: Number,
    epsilon: Number,
    rescale: Number,
    bound: Number,
    wd: Number,
    correct: Number,
    squares: Squares,
) -> None:
    real = weight.dtype.type
    zero = real(0.0)
    new1, new2, beta1, beta2 = real(1.0 - beta1), real(1.0 - beta2), real(beta1), real(beta2)
    epsilon, rescale, bound, wd, correct = real(epsilon), real(rescale), real(bound), real(wd), real(correct)
    weights, steps = 0.0, 0.0
    for i in range(weight.size):
        g = grad[i] * rescale
        g = -bound if g < -bound else (bound if g > bound else g)
        m = mean[i] * beta1 + g * new1
        v = var[i] * beta2 + g * g * new2
        step = m / (math.sqrt(v) + epsilon) * correct + (weight[i] * wd if wd else zero)
        weights += weight[i] * weight[i]
        steps += step * step
    squares[0] += weights
    squares[1] += steps


def set_3(out: Written, a: Read, b: Read, c: Read) -> None:
    for i in range(out.size):
        out[i] = a[i] + b[i] + c[i]


def set_4(out: Written, a: Read, b: Read, c: Read, d: Read) -> None:
    for i in range(out.size):
        out[i] = a[i] + b[i] + c[i] + d[i]


def add_1(out: Written, a: Read) -> None:
    for i in range(out.size):
        out[i] = out[i] + a[i]


def add_2(out: Written, a: Read, b: Read) -> None:
    for i in range(out.size):
        out[i] = out[i] + a[i] + b[i]


def add_3(out: Written, a: Read, b: Read, c: Read) -> None:
    for i in range(out.size):
        out[i] = out[i] + a[i] + b[i] + c[i]


def add_4(out: Written, a: Read, b: Read, c: Read, d: Read) -> None:
    for i in range(out.size):
        out[i] = out[i] + a[i] + b[i] + c[i] + d[i]
