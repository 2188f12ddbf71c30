"""Operations that only tests have: that a new one is a functor, and no kernel."""

from __future__ import annotations

from fastdrop_kernels.cuda.operations import FLOAT32, MOVED, Operation

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
