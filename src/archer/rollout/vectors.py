"""Sixteen numbers at a time: what attention on a processor is made of, as instructions for LLVM.

Every sum is a chain of fused multiply-adds in the order of memory, one for each number of the result. How many chains
run side by side makes it fast and changes nothing in any of them: results do not depend on what is computed together.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from archer.rollout.backends import LANES

_FLOATS, _WORDS, _HALVES = (ir.VectorType(kind, LANES) for kind in (ir.FloatType(), ir.IntType(32), ir.IntType(16)))


def _pointers(context, builder, kind, arrays):
    """Where each of a tuple of arrays begins."""
    return [context.make_array(kind.dtype)(context, builder, array).data for array in _parts(builder, arrays, kind)]


def _memory(context, builder, kind, array):
    """Where an array begins, and how long its second dimension is."""
    given = context.make_array(kind)(context, builder, array)
    return given.data, builder.extract_value(given.shape, 1)


def _read(builder, kind, pointer, index):
    """Numbers from ``index`` on as float32; 16-bit integers are the bits of bfloat16."""
    place = builder.gep(pointer, [index])
    vector = _HALVES if kind.dtype == types.uint16 else _FLOATS
    loaded = builder.load(builder.bitcast(place, vector.as_pointer()), align=kind.dtype.bitwidth // 8)
    if vector is _FLOATS:
        return loaded
    return builder.bitcast(
        builder.shl(builder.zext(loaded, _WORDS), _splat(builder, ir.Constant(ir.IntType(32), 16))), _FLOATS
    )


def _write(builder, vector, pointer, index):
    place = builder.gep(pointer, [index])
    builder.store(vector, builder.bitcast(place, _FLOATS.as_pointer()), align=4)


def _splat(builder, number):
    """A vector of ``number``."""
    kind = ir.VectorType(number.type, LANES)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(
        one, ir.Constant(kind, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    )


def _fma(builder, a, b, c):
    kind = ir.FunctionType(_FLOATS, [_FLOATS] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32"), [a, b, c])


def _parts(builder, tuple_value, kind):
    return [builder.extract_value(tuple_value, i) for i in range(kind.count)]


def _add(builder, sums, factors, index, vectors):
    """sums[f][v] += factors[f][index] · vectors[v]."""
    for one, chains in zip(factors, sums, strict=True):
        factor = _splat(builder, builder.load(builder.gep(one, [index])))
        for vector, chain in zip(vectors, chains, strict=True):
            builder.store(_fma(builder, factor, vector, builder.load(chain)), chain)


def _put(builder, sums, outs, places):
    """outs[o] at places[p] = sums[o][p]."""
    for out, chains in zip(outs, sums, strict=True):
        for place, chain in zip(places, chains, strict=True):
            _write(builder, builder.load(chain), out, place)


@intrinsic
def dot(typing, queries, keys, blocks, scores):
    """scores[q][16 · b + t] = queries[q] · keys[b, :, t] for every query and each of ``blocks``."""
    signature = types.void(queries, keys, blocks, scores)

    def generate(context, builder, signature, arguments):
        of_queries, of_keys, of_blocks, of_scores = signature.args
        factors = _pointers(context, builder, of_queries, arguments[0])
        memory, width = _memory(context, builder, of_keys, arguments[1])
        wanted = _parts(builder, arguments[2], of_blocks)
        outs = _pointers(context, builder, of_scores, arguments[3])
        lanes = ir.Constant(width.type, LANES)
        block = builder.mul(width, lanes)
        begins = [builder.mul(number, block) for number in wanted]
        zero = ir.Constant(_FLOATS, [0.0] * LANES)
        sums = [[cgutils.alloca_once_value(builder, zero) for _ in wanted] for _ in factors]
        with cgutils.for_range(builder, width) as loop:
            offset = builder.mul(loop.index, lanes)
            read = [_read(builder, of_keys, memory, builder.add(begin, offset)) for begin in begins]
            _add(builder, sums, factors, loop.index, read)
        _put(builder, sums, outs, [builder.mul(number, lanes) for number in wanted])
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def add_weighted(typing, outs, weights, values, low, high, chunks):
    """outs[q][c : c + 16] += Σ weights[q][t] · values[t, c : c + 16], low ≤ t < high, for each c of ``chunks``."""
    signature = types.void(outs, weights, values, low, high, chunks)

    def generate(context, builder, signature, arguments):
        of_outs, of_weights, of_values, _, _, of_chunks = signature.args
        outs = _pointers(context, builder, of_outs, arguments[0])
        factors = _pointers(context, builder, of_weights, arguments[1])
        memory, width = _memory(context, builder, of_values, arguments[2])
        low, high = arguments[3:5]
        wanted = _parts(builder, arguments[5], of_chunks)
        sums = [
            [cgutils.alloca_once_value(builder, _read(builder, of_outs.dtype, out, at)) for at in wanted]
            for out in outs
        ]
        one = ir.Constant(width.type, 1)
        with cgutils.for_range_slice(builder, low, high, one, inc=True) as (t, _):
            line = builder.mul(t, width)
            read = [_read(builder, of_values, memory, builder.add(line, at)) for at in wanted]
            _add(builder, sums, factors, t, read)
        _put(builder, sums, outs, wanted)
        return context.get_dummy_value()

    return signature, generate
