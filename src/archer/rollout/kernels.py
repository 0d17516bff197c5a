"""Attention over cached conversations on a processor, compiled when first used (Numba).

Every token looks at its own conversation up to itself, whatever the others in the batch look at: no padding, no mask,
and sums whose order does not depend on the batch. Keys lie transposed, [rows, heads, width, tokens], so that both inner
loops run along memory. bfloat16 is stored as its 16 bits and widened in the registers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, prange, types
from numba.extending import intrinsic, overload

OPTIONS: Any = {
    "fastmath": {"nnan", "ninf", "nsz", "arcp", "contract", "afn", "reassoc"},
    "nogil": True,
    "cache": True,
}


@intrinsic
def _float_of_bits(typing, bits):
    """The float32 that 32 bits are."""
    signature = types.float32(types.uint32)

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return signature, generate


def widen(stored):
    """A stored number as float32."""
    raise NotImplementedError("compiled code only")


@overload(widen, inline="always")
def _widen_compiled(stored):
    if isinstance(stored, types.Float):
        return lambda stored: stored
    return lambda stored: _float_of_bits(np.uint32(stored) << np.uint32(16))


@intrinsic
def _bits_of_float(typing, number):
    """The 32 bits of a float32."""
    signature = types.uint32(types.float32)

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(32))

    return signature, generate


def narrow(number, array):
    """A float32 as ``array`` stores it."""
    raise NotImplementedError("compiled code only")


@overload(narrow, inline="always")
def _narrow_compiled(number, array):
    if isinstance(array.dtype, types.Float):
        return lambda number, array: number

    def rounded(number, array):  # to the nearest bfloat16, to the even one of two
        bits = _bits_of_float(number)
        return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))

    return rounded


@njit(inline="always", **OPTIONS)
def exp(x):
    """e to the power of x ≤ 88, relative error below 1e-6: 2^n from the exponent's bits, 2^f from a polynomial."""
    y = max(x, np.float32(-87.0)) * np.float32(1.4426950408889634)
    n = np.floor(y)
    f = y - n
    p = np.float32(1.535336188319500e-4)  # Taylor coefficients of 2^f, ln(2)^k / k!, from k = 6 on down
    p = p * f + np.float32(1.339887440266574e-3)
    p = p * f + np.float32(9.618437357674640e-3)
    p = p * f + np.float32(5.550332471162809e-2)
    p = p * f + np.float32(2.402264791363012e-1)
    p = p * f + np.float32(6.931472028550421e-1)
    p = p * f + np.float32(1.0)
    return p * _float_of_bits(np.uint32(np.int32(n) + np.int32(127)) << np.uint32(23))


@njit(**OPTIONS)
def _scores(scores, query, keys, low, high, scale):
    """scores[t - low] = scale · query · keys[:, t] for low ≤ t < high."""
    # Loops run from 0 over slices: an index that might be negative would keep the compiler from vectorising.
    width, tokens = keys.shape[0], high - low
    for t in range(tokens):
        scores[t] = np.float32(0)
    d = 0
    while d + 8 <= width:
        q0, q1, q2, q3 = query[d] * scale, query[d + 1] * scale, query[d + 2] * scale, query[d + 3] * scale
        q4, q5, q6, q7 = query[d + 4] * scale, query[d + 5] * scale, query[d + 6] * scale, query[d + 7] * scale
        k0, k1 = keys[d, low:high], keys[d + 1, low:high]
        k2, k3 = keys[d + 2, low:high], keys[d + 3, low:high]
        k4, k5 = keys[d + 4, low:high], keys[d + 5, low:high]
        k6, k7 = keys[d + 6, low:high], keys[d + 7, low:high]
        for t in range(tokens):
            scores[t] += ((q0 * widen(k0[t]) + q1 * widen(k1[t])) + (q2 * widen(k2[t]) + q3 * widen(k3[t]))) + (
                (q4 * widen(k4[t]) + q5 * widen(k5[t])) + (q6 * widen(k6[t]) + q7 * widen(k7[t]))
            )
        d += 8
    while d < width:
        q0, k0 = query[d] * scale, keys[d, low:high]
        for t in range(tokens):
            scores[t] += q0 * widen(k0[t])
        d += 1


@njit(**OPTIONS)
def _mix(out, weights, values):
    """out += Σ weights[t] · values[t]."""
    tokens, width = values.shape
    t = 0
    while t + 8 <= tokens:
        w0, w1, w2, w3 = weights[t], weights[t + 1], weights[t + 2], weights[t + 3]
        w4, w5, w6, w7 = weights[t + 4], weights[t + 5], weights[t + 6], weights[t + 7]
        v0, v1, v2, v3 = values[t], values[t + 1], values[t + 2], values[t + 3]
        v4, v5, v6, v7 = values[t + 4], values[t + 5], values[t + 6], values[t + 7]
        for d in range(width):
            out[d] += ((w0 * widen(v0[d]) + w1 * widen(v1[d])) + (w2 * widen(v2[d]) + w3 * widen(v3[d]))) + (
                (w4 * widen(v4[d]) + w5 * widen(v5[d])) + (w6 * widen(v6[d]) + w7 * widen(v7[d]))
            )
        t += 8
    while t < tokens:
        w0, v0 = weights[t], values[t]
        for d in range(width):
            out[d] += w0 * widen(v0[d])
        t += 1


@njit(**OPTIONS)
def _attend_one(query, keys, values, trunk_keys, trunk_values, shared, own, scale, window, cap, sink, scores, out):
    """One head of one token: softmax over ``shared`` trunk tokens and ``own`` tokens behind them, last ones first."""
    end = shared + own
    low = max(0, end - window) if window > 0 else 0  # of both together
    first, behind = min(low, shared), max(0, low - shared)  # of the trunk, of its own
    trunk_scores, own_scores, scores = scores[first:shared], scores[shared + behind : end], scores[low:end]
    if shared > first:
        _scores(trunk_scores, query, trunk_keys, first, shared, scale)
    _scores(own_scores, query, keys, behind, own, scale)
    if cap > 0:
        for t in range(scores.shape[0]):
            scores[t] = cap * np.tanh(scores[t] / cap)
    top = scores[0]
    for t in range(scores.shape[0]):
        top = max(top, scores[t])
    top = max(top, sink)
    total = exp(sink - top)
    for t in range(scores.shape[0]):
        weight = exp(scores[t] - top)
        scores[t] = weight
        total += weight
    total = np.float32(1) / total
    for t in range(scores.shape[0]):
        scores[t] *= total
    out[:] = np.float32(0)
    if shared > first:
        _mix(out, trunk_scores, trunk_values[first:shared])
    _mix(out, own_scores, values[behind:own])


def _attend(
    query, keys, values, trunk_keys, trunk_values, begins, rows, trunk_rows, shared, own, scale, window, cap, sinks, out
):
    """``out`` [N, heads, width] for ``query`` [N, heads, width]: token n sees shared[n] tokens of its trunk's row and
    own[n] of its own row. Tokens of one row stand next to each other, from begins[s] to begins[s + 1]: a head's keys
    and values are fetched once for all of them."""
    heads = query.shape[1]
    group = heads // keys.shape[1]
    for s in prange(len(begins) - 1):
        scores = np.empty(shared[begins[s + 1] - 1] + own[begins[s + 1] - 1], np.float32)
        for h in range(heads):
            for n in range(begins[s], begins[s + 1]):
                _attend_one(
                    query[n, h], keys[rows[n], h // group], values[rows[n], h // group],
                    trunk_keys[trunk_rows[n], h // group], trunk_values[trunk_rows[n], h // group],
                    shared[n], own[n], scale, window, cap, sinks[h], scores, out[n, h],
                )  # fmt: skip


attend = njit(**OPTIONS)(_attend)
attend_parallel = njit(parallel=True, **OPTIONS)(_attend)


@njit(**OPTIONS)
def store(keys, values, new_keys, new_values, rows, columns):
    """Put the keys and values of N tokens, [N, heads, width], where they belong."""
    tokens, heads, width = new_keys.shape
    for n in range(tokens):
        for h in range(heads):
            for d in range(width):
                keys[rows[n], h, d, columns[n]] = new_keys[n, h, d]
                values[rows[n], h, columns[n], d] = new_values[n, h, d]


@njit(**OPTIONS)
def draw(logits, lines, uniforms, tokens, logprobs):
    """A token from each of ``lines`` [n] of ``logits`` [., vocabulary] by inverse CDF, and its log-probability.

    uniforms: [n] in [0, 1); a negative one takes the most likely token.
    """
    vocabulary = logits.shape[1]
    block = 256
    sums = np.empty((vocabulary + block - 1) // block, np.float32)
    for n in range(lines.shape[0]):
        row = logits[lines[n]]
        top = row[0]
        for v in range(vocabulary):
            top = max(top, row[v])
        total = np.float32(0)
        for b in range(sums.shape[0]):
            part = np.float32(0)
            for v in range(b * block, min((b + 1) * block, vocabulary)):
                part += exp(row[v] - top)
            sums[b] = part
            total += part
        chosen = -1
        if uniforms[n] < 0:
            for v in range(vocabulary):
                if chosen < 0 and row[v] == top:
                    chosen = v
        else:
            left = uniforms[n] * total
            b = 0
            while b < sums.shape[0] - 1 and left >= sums[b]:
                left -= sums[b]
                b += 1
            for v in range(b * block, min((b + 1) * block, vocabulary)):
                weight = exp(row[v] - top)
                if chosen < 0 and row[v] > top - np.float32(87):
                    if left < weight:
                        chosen = v
                    left -= weight
            if chosen < 0:  # rounding left a little over: the block's last token that can be said
                for v in range(b * block, min((b + 1) * block, vocabulary)):
                    if row[v] > top - np.float32(87):
                        chosen = v
        tokens[n] = chosen
        logprobs[n] = row[chosen] - top - np.log(total)
