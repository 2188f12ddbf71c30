"""Operations that tests compile: some of those of several operands, which are too many for all.

And two that only tests have: that a new one is a functor, and no kernel.
"""

from __future__ import annotations

from fastdrop_kernels.cuda.operations import (
    ACTIVATIONS,
    FLOAT32,
    FLOATS,
    MOVED,
    Operation,
    bias_act_drop,
    bias_act_drop_backward,
)

# dropout(x + bias) + residual, by the parameter as its scale.
_RESIDUAL = """
namespace fastdrop {
template <class Storage_>
struct Residual {
    using Storage = Storage_;
    using Value = typename Storage::Value;
    using Operands = Reads<Storage, Storage, Storage>;
    static constexpr Noise NOISE = COMMON;
    static FASTDROP_INLINE bool reads(bool) { return true; }
    static FASTDROP_INLINE Value apply(u32 noise, const Params& p, Value x, Value bias,
                                       Value residual) {
        const Value kept = (x + bias) * parameter<Value>(p, 0);
        return (noise >= p.threshold ? kept : Value(0)) + residual;
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
    static constexpr Noise NOISE = EXACT;
    static FASTDROP_INLINE bool reads(bool) { return true; }
    static FASTDROP_INLINE Value apply(u32 noise, const Params&) {
        return noise;
    }
};
}  // namespace fastdrop
"""

RESIDUAL = Operation("residual", "Residual", FLOAT32, (FLOAT32,) * 3, definition=_RESIDUAL)
UNIFORM = Operation("uniform", "Uniform", MOVED[4], (), exact=True, definition=_UNIFORM)
FUNCTORS = (RESIDUAL, UNIFORM)

# Of those below, what the quick tests run.
QUICK_JOINT = (
    bias_act_drop("float32", "identity", True, True),
    bias_act_drop_backward("float32", "relu", True),
)
_PARTS = ((False, False), (False, True), (True, False))
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
)
