"""Attention over cached conversations on a processor, compiled when first used (Numba).

Every token looks at its own conversation up to itself, whatever the others in the batch look at: no padding, no mask,
and sums whose order does not depend on the batch. Keys lie in blocks of sixteen tokens, transposed within, [rows,
heads, blocks, width, 16], and values as they come, [rows, heads, tokens, width]: both are read from front to back.
bfloat16 is stored as its 16 bits and widened in the registers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, prange, types
from numba.extending import intrinsic, overload

from archer.rollout.backends import LANES, NO_SINK
from archer.rollout.vectors import add_weighted, dot

OPTIONS: Any = {
    "fastmath": {"nnan", "ninf", "nsz", "arcp", "contract", "afn", "reassoc"},
    "error_model": "numpy",  # a division that may raise would keep its loop from being vectorised
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
def _score(queries, keys, low, high, scores):
    """scores[q][t] = queries[q] · keys[t] for low ≤ t < high, and for what else lies in the same blocks."""
    b, blocks = low // LANES, (high + LANES - 1) // LANES
    while b + 4 <= blocks:
        dot(queries, keys, (b, b + 1, b + 2, b + 3), scores)
        b += 4
    while b < blocks:
        dot(queries, keys, (b,), scores)
        b += 1


@njit(**OPTIONS)
def _mix(weights, values, low, high, outs):
    """outs[q] += Σ weights[q][t] · values[t], low ≤ t < high."""
    d, width = 0, values.shape[1]
    while d + 4 * LANES <= width:
        add_weighted(outs, weights, values, low, high, (d, d + LANES, d + 2 * LANES, d + 3 * LANES))
        d += 4 * LANES
    while d + 2 * LANES <= width:
        add_weighted(outs, weights, values, low, high, (d, d + LANES))
        d += 2 * LANES
    while d < width:
        add_weighted(outs, weights, values, low, high, (d,))
        d += LANES


@njit(**OPTIONS)
def _bend(scores, scale, cap):
    """Scores as the layer wants them, and the highest."""
    top = NO_SINK
    for t in range(scores.shape[0]):
        scores[t] *= scale
        if cap > 0:
            scores[t] = cap * np.tanh(scores[t] / cap)
        top = max(top, scores[t])
    return top


@njit(**OPTIONS)
def _weigh(scores, top):
    """exp(scores - top), and the sum of it."""
    total = np.float32(0)
    for t in range(scores.shape[0]):
        weight = exp(scores[t] - top)
        scores[t] = weight
        total += weight
    return total


@njit(**OPTIONS)
def _softmax(trunk_scores, scores, scale, cap, sink):
    """Both together into weights that sum to one, less what ``sink`` takes."""
    top = max(max(_bend(trunk_scores, scale, cap), _bend(scores, scale, cap)), sink)
    total = np.float32(1) / (_weigh(trunk_scores, top) + _weigh(scores, top) + exp(sink - top))
    for t in range(trunk_scores.shape[0]):
        trunk_scores[t] *= total
    for t in range(scores.shape[0]):
        scores[t] *= total


@njit(**OPTIONS)
def _first_seen(shared, own, window):
    """The first token seen of the trunk, and of its own row, by one that sees the last ``window`` (0: all)."""
    low = max(0, shared + own - window) if window > 0 else 0
    return min(low, shared), max(0, low - shared)


@njit(**OPTIONS)
def _attend_some(
    queries, keys, values, trunk_keys, trunk_values, shared, own, scale, window, cap, sink, trunk_scores, scores, outs
):
    """One head of tokens that follow each other on a row, the first of which sees ``own`` of it, the next one more."""
    end = own + len(queries) - 1
    trunk_low, own_low = _first_seen(shared, own, window)
    if shared > trunk_low:
        _score(queries, trunk_keys, trunk_low, shared, trunk_scores)
    _score(queries, keys, own_low, end, scores)
    for i in range(len(queries)):
        trunk_first, first = _first_seen(shared, own + i, window)
        _softmax(trunk_scores[i][trunk_first:shared], scores[i][first : own + i], scale, cap, sink)
        trunk_scores[i][trunk_low:trunk_first] = np.float32(0)
        scores[i][own_low:first] = np.float32(0)
        scores[i][own + i : end] = np.float32(0)
        outs[i][:] = np.float32(0)
    if shared > trunk_low:
        _mix(trunk_scores, trunk_values, trunk_low, shared, outs)
    _mix(scores, values, own_low, end, outs)


def _attend(
    query, keys, values, trunk_keys, trunk_values, begins, rows, trunk_rows, shared, own, scale, window, cap, sinks, out
):
    """``out`` [N, heads, width] for ``query`` [N, heads, width]: token n sees shared[n] tokens of its trunk's row and
    own[n] of its own row. From begins[s] to begins[s + 1] they follow each other on one row: four of them look at a key
    together, which is read and widened once."""
    heads = query.shape[1]
    group = heads // keys.shape[1]
    for s in prange(len(begins) - 1):
        first, last = begins[s], begins[s + 1]
        row, trunk_row, trunk_seen = rows[first], trunk_rows[first], shared[first]
        a = np.empty((4, trunk_seen + LANES), np.float32)
        b = np.empty((4, own[last - 1] + LANES), np.float32)
        for h in range(heads):
            k, v = keys[row, h // group], values[row, h // group]
            trunk_k, trunk_v = trunk_keys[trunk_row, h // group], trunk_values[trunk_row, h // group]
            n = first
            while n < last:
                if last - first >= 4:
                    n = min(n, last - 4)
                    _attend_some(
                        (query[n, h], query[n + 1, h], query[n + 2, h], query[n + 3, h]),
                        k, v, trunk_k, trunk_v, trunk_seen, own[n], scale, window, cap, sinks[h],
                        (a[0], a[1], a[2], a[3]), (b[0], b[1], b[2], b[3]),
                        (out[n, h], out[n + 1, h], out[n + 2, h], out[n + 3, h]),
                    )  # fmt: skip
                    n += 4
                else:
                    _attend_some(
                        (query[n, h],), k, v, trunk_k, trunk_v, trunk_seen, own[n], scale, window, cap, sinks[h],
                        (a[0],), (b[0],), (out[n, h],),
                    )  # fmt: skip
                    n += 1


attend = njit(**OPTIONS)(_attend)
attend_parallel = njit(parallel=True, **OPTIONS)(_attend)


@njit(**OPTIONS)
def store(keys, values, new_keys, new_values, rows, columns):
    """Put the keys and values of N tokens, [N, heads, width], where they belong."""
    tokens, heads, width = new_keys.shape
    for h in range(heads):
        for n in range(tokens):
            key, value = keys[rows[n], h, columns[n] // LANES, :, columns[n] % LANES], values[rows[n], h, columns[n]]
            for d in range(width):
                key[d] = new_keys[n, h, d]
            for d in range(width):
                value[d] = new_values[n, h, d]


@njit(**OPTIONS)
def _mass(logits, top):
    """Σ exp(logits - top)."""
    total = np.float32(0)
    for v in range(logits.shape[0]):
        total += exp(logits[v] - top)
    return total


@njit(**OPTIONS)
def draw(logits, lines, uniforms, tokens, logprobs):
    """A token from each of ``lines`` [n] of ``logits`` [., vocabulary] by inverse CDF, and its log-probability.

    uniforms: [n] in [0, 1); a negative one takes the most likely token.
    """
    vocabulary = logits.shape[1]
    block = 64
    sums = np.empty((vocabulary + block - 1) // block, np.float32)
    for n in range(lines.shape[0]):
        row = logits[lines[n]]
        top = row[0]
        for v in range(vocabulary):
            top = max(top, row[v])
        total = np.float32(0)
        for b in range(sums.shape[0]):
            sums[b] = _mass(row[b * block : min((b + 1) * block, vocabulary)], top)
            total += sums[b]
        chosen = -1
        if uniforms[n] < 0:
            for v in range(vocabulary):
                if chosen < 0 and row[v] == top:
                    chosen = v
        else:
            left = uniforms[n] * total
            last = vocabulary - 1  # rounding may leave a little over: not past the last token that can be said
            while last > 0 and row[last] <= top - np.float32(87):
                last -= 1
            b = 0
            while b < last // block and left >= sums[b]:
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
