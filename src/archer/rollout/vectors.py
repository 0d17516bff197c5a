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


def _pointer(context, builder, kind, array):
    return context.make_array(kind)(context, builder, array).data


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


@intrinsic
def dot(typing, queries, keys, blocks, scores):
    """scores[q][16 · b + t] = queries[q] · keys[b, :, t] for every query and each of ``blocks``."""
    signature = types.void(queries, keys, blocks, scores)

    def generate(context, builder, signature, arguments):
        kinds = signature.args
        query, score = (
            [_pointer(context, builder, kind.dtype, one) for one in _parts(builder, value, kind)]
            for kind, value in ((kinds[0], arguments[0]), (kinds[3], arguments[3]))
        )
        wanted = _parts(builder, arguments[2], kinds[2])
        array = context.make_array(kinds[1])(context, builder, arguments[1])
        width = builder.extract_value(array.shape, 1)
        lanes = ir.Constant(width.type, LANES)
        block = builder.mul(width, lanes)
        begins = [builder.mul(number, block) for number in wanted]
        zero = ir.Constant(_FLOATS, [0.0] * LANES)
        sums = [[cgutils.alloca_once_value(builder, zero) for _ in wanted] for _ in query]
        with cgutils.for_range(builder, width) as loop:
            offset = builder.mul(loop.index, lanes)
            read = [_read(builder, kinds[1], array.data, builder.add(begin, offset)) for begin in begins]
            for one, chains in zip(query, sums, strict=True):
                factor = _splat(builder, builder.load(builder.gep(one, [loop.index])))
                for key, chain in zip(read, chains, strict=True):
                    builder.store(_fma(builder, factor, key, builder.load(chain)), chain)
        for out, chains in zip(score, sums, strict=True):
            for number, chain in zip(wanted, chains, strict=True):
                _write(builder, builder.load(chain), out, builder.mul(number, lanes))
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def add_weighted(typing, outs, weights, values, low, high, chunks):
    """outs[q][c : c + 16] += Σ weights[q][t] · values[t, c : c + 16], low ≤ t < high, for each c of ``chunks``."""
    signature = types.void(outs, weights, values, low, high, chunks)

    def generate(context, builder, signature, arguments):
        kinds = signature.args
        out, weight = (
            [_pointer(context, builder, kind.dtype, one) for one in _parts(builder, value, kind)]
            for kind, value in ((kinds[0], arguments[0]), (kinds[1], arguments[1]))
        )
        wanted = _parts(builder, arguments[5], kinds[5])
        array = context.make_array(kinds[2])(context, builder, arguments[2])
        width = builder.extract_value(array.shape, 1)
        sums = [
            [cgutils.alloca_once_value(builder, _read(builder, kinds[0].dtype, one, at)) for at in wanted]
            for one in out
        ]
        with cgutils.for_range_slice(builder, arguments[3], arguments[4], ir.Constant(width.type, 1), inc=True) as (
            t,
            _,
        ):
            line = builder.mul(t, width)
            read = [_read(builder, kinds[2], array.data, builder.add(line, at)) for at in wanted]
            for one, chains in zip(weight, sums, strict=True):
                factor = _splat(builder, builder.load(builder.gep(one, [t])))
                for value, chain in zip(read, chains, strict=True):
                    builder.store(_fma(builder, factor, value, builder.load(chain)), chain)
        for one, chains in zip(out, sums, strict=True):
            for at, chain in zip(wanted, chains, strict=True):
                _write(builder, builder.load(chain), one, at)
        return context.get_dummy_value()

    return signature, generate
