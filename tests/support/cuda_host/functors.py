"""Operations that tests compile: some of those of several operands, which are too many for all.

And two that only tests have: that a new one is a functor, and no kernel.
"""

from __future__ import annotations

import functools

from fastdrop_kernels.catalogue import ACTIVATIONS
from fastdrop_kernels.cuda.operations import FLOATS, RAW, Operation, of_elements

bias_act_drop = functools.partial(of_elements, "bias_act_drop")
bias_act_drop_backward = functools.partial(of_elements, "bias_act_drop_backward")
zoneout = functools.partial(of_elements, "zoneout")
fill_from = functools.partial(of_elements, "fill_from")

# dropout(x + bias) + residual, by the parameter as its scale.
_RESIDUAL = """
namespace fastdrop {
template <class Storage_>
struct Residual {
    using Storage = Storage_;
    using Value = typename Storage::Value;
    using Operands = Reads<Storage, Storage, Storage>;
    static constexpr Uniforms UNIFORMS = COMPARE_COMMON;
    static FASTDROP_INLINE bool reads(bool) { return true; }
    static FASTDROP_INLINE Value apply(bool kept, const Params& p, Value x, Value bias,
                                       Value residual) {
        const Value scaled = (x + bias) * parameter<Value>(p, 0);
        return (kept ? scaled : Value(0)) + residual;
    }
};
}  // namespace fastdrop
"""

# The 32-bit uniforms themselves.
_UNIFORM = """
namespace fastdrop {
template <class Storage_>
struct Uniform {
    using Storage = Storage_;
    using Value = typename Storage::Value;
    using Operands = Reads<>;
    static constexpr Uniforms UNIFORMS = EXACT;
    static FASTDROP_INLINE bool reads(bool) { return true; }
    static FASTDROP_INLINE Value apply(u32 uniform, const Params&) {
        return uniform;
    }
};
}  // namespace fastdrop
"""

_FLOAT32 = FLOATS["float32"]
RESIDUAL = Operation("residual", "Residual", _FLOAT32, (_FLOAT32,) * 3, definition=_RESIDUAL)
UNIFORM = Operation("uniform", "Uniform", RAW[4], (), needs_uniform=True, definition=_UNIFORM)
FUNCTORS = (RESIDUAL, UNIFORM)

_PARTS = ((False, False), (False, True), (True, False))
# Of those below, what the quick tests run.
QUICK_JOINT = (
    *(bias_act_drop("float32", "identity", *parts) for parts in _PARTS),
    *(bias_act_drop("float32", act, True, True) for act in ("identity", "relu", "gelu")),
    *(bias_act_drop_backward("float32", act, True) for act in ("relu", "gelu")),
    *(zoneout("float32", mean) for mean in (False, True)),
    *(fill_from(size) for size in ("1", "4")),
)
_SMOOTH = [act for act in ACTIVATIONS if act not in ("identity", "relu")]
JOINT = (
    *(bias_act_drop("float32", "identity", *parts) for parts in _PARTS),
    *(bias_act_drop(name, act, True, True) for name in FLOATS for act in ("identity", "relu")),
    *(bias_act_drop_backward(name, "relu", True) for name in FLOATS),
    bias_act_drop_backward("float32", "relu", False),
    *(bias_act_drop(name, act, True, True) for name in ("float32", "float64") for act in _SMOOTH),
    *(
        bias_act_drop_backward(name, act, True)
        for name in ("float32", "float64")
        for act in _SMOOTH
    ),
    bias_act_drop("bfloat16", "gelu", True, True),
    bias_act_drop_backward("float16", "silu", True),
    *(zoneout(name, mean) for name in FLOATS for mean in (False, True)),
)
