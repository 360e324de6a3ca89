"""Asking the processor, from a compiled kernel, to fetch a row before it is needed."""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LINE = 64  # bytes of a cache line
_FOR_WRITING, _KEEP, _DATA = 1, 3, 1  # LLVM's arguments: write access, all cache levels, the data cache


@intrinsic
def prefetch(_typing: Any, rows: Any, row: Any, column: Any) -> Any:
    """``prefetch(rows, row, column)`` begins to fetch the cache line that holds ``rows[row, column]``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        element = cgutils.get_item_pointer(
            context, builder, signature.args[0], array, [arguments[1], arguments[2]], wraparound=False
        )
        address = builder.bitcast(element, ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [address.type, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [address, number(_FOR_WRITING), number(_KEEP), number(_DATA)])
        return context.get_dummy_value()

    return types.void(rows, types.intp, types.intp), generate
