"""What stands between the matrix products of a decoder's layers, on a processor, compiled when first used (Numba)."""

from __future__ import annotations

import numpy as np
from numba import njit

from archer.rollout.backends import LANES
from archer.rollout.kernels import OPTIONS, exp, narrow, widen


@njit(**OPTIONS)
def rms_norm(x, weight, epsilon, out):
    """Every row of ``x`` [N, d] over its root mean square, times ``weight``."""
    rows, width = x.shape
    for n in range(rows):
        row, result = x[n], out[n]
        total = np.float32(0)
        for d in range(width):
            total += row[d] * row[d]
        scale = np.float32(1) / np.sqrt(total / np.float32(width) + epsilon)
        for d in range(width):
            result[d] = narrow(row[d] * scale * weight[d], out)


@njit(**OPTIONS)
def layer_norm(x, weight, bias, epsilon, out):
    """Every row of ``x`` [N, d] less its mean, over its standard deviation, times ``weight`` plus ``bias``."""
    rows, width = x.shape
    for n in range(rows):
        row, result = x[n], out[n]
        mean = np.float32(0)
        for d in range(width):
            mean += row[d]
        mean /= np.float32(width)
        total = np.float32(0)
        for d in range(width):
            total += (row[d] - mean) * (row[d] - mean)
        scale = np.float32(1) / np.sqrt(total / np.float32(width) + epsilon)
        for d in range(width):
            result[d] = narrow((row[d] - mean) * scale * weight[d] + bias[d], out)


@njit(**OPTIONS)
def gelu(x):
    """x ← x · Φ(x), GPT-2's approximation: ½ (1 + tanh u) is the sigmoid of 2u."""
    rows, width = x.shape
    for n in range(rows):
        row = x[n]
        for d in range(width):
            y = widen(row[d])
            u = np.float32(1.5957691216057308) * (y + np.float32(0.044715) * y * y * y)  # 2 √(2/π)
            row[d] = narrow(y / (np.float32(1) + exp(min(-u, np.float32(87)))), x)


@njit(**OPTIONS)
def gate(both, out):
    """silu(both[:, :d]) · both[:, d:], [N, d]."""
    rows, width = out.shape
    for n in range(rows):
        left, right, result = both[n, :width], both[n, width:], out[n]
        for d in range(width):
            x = widen(left[d])
            sigmoid = np.float32(1) / (np.float32(1) + exp(min(-x, np.float32(87))))
            result[d] = narrow(x * sigmoid * widen(right[d]), out)


@njit(**OPTIONS)
def rotate_and_store(projected, cosine, sine, positions, rows, columns, queries, keys, values):
    """Split what a layer projects of N tokens, turn queries and keys by their positions, and store keys and values.

    projected: [N, (heads + 2 · key heads) · width]; cosine, sine: [positions, width / 2].
    """
    tokens, heads, width = queries.shape
    kept, half = keys.shape[1], width // 2
    for n in range(tokens):
        row, cos, sin = projected[n], cosine[positions[n]], sine[positions[n]]
        for h in range(heads):
            part, out = row[h * width : (h + 1) * width], queries[n, h]
            for d in range(half):
                a, b = widen(part[d]), widen(part[half + d])
                out[d] = a * cos[d] - b * sin[d]
                out[half + d] = b * cos[d] + a * sin[d]
        for h in range(kept):
            at = (heads + h) * width
            part, turned = row[at : at + width], keys[rows[n], h, columns[n] // LANES, :, columns[n] % LANES]
            for d in range(half):
                a, b = widen(part[d]), widen(part[half + d])
                turned[d] = narrow(a * cos[d] - b * sin[d], keys)
                turned[half + d] = narrow(b * cos[d] + a * sin[d], keys)
            at = (heads + kept + h) * width
            part, told = row[at : at + width], values[rows[n], h, columns[n]]
            for d in range(width):
                told[d] = part[d]
