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
    static constexpr int OPERANDS = 3;
    static constexpr bool EXACT = false;
    static FASTDROP_INLINE bool reads(bool) { return true; }
    static FASTDROP_INLINE Value apply(u32 noise, const Value (&x)[3], const Params& p) {
        const Value kept = (x[0] + x[1]) * parameter<Value>(p, 0);
        return (noise >= p.threshold ? kept : Value(0)) + x[2];
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
    static constexpr int OPERANDS = 0;
    static constexpr bool EXACT = true;
    static FASTDROP_INLINE bool reads(bool) { return true; }
    static FASTDROP_INLINE Value apply(u32 noise, const Value (&)[1], const Params&) {
        return noise;
    }
};
}  // namespace fastdrop
"""

RESIDUAL = Operation("residual", "Residual", FLOAT32, 3, definition=_RESIDUAL)
UNIFORM = Operation("uniform", "Uniform", MOVED[4], 0, exact=True, definition=_UNIFORM)
FUNCTORS = (RESIDUAL, UNIFORM)
