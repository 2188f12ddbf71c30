// What stands at the end of a layer, as one operation: an activation of x and a bias, dropout, and a
// residual. Bias and residual may be absent, and then nothing of them is compiled.

namespace fastdrop {

// The same storage type for N operands.
template <class Storage, int N, class... Storages>
struct Alike {
    using Operands = typename Alike<Storage, N - 1, Storage, Storages...>::Operands;
};
template <class Storage, class... Storages>
struct Alike<Storage, 0, Storages...> {
    using Operands = Reads<Storages...>;
};

// dropout(activation(x + bias)) + residual, by the parameter as its scale.
template <class Storage_, class Activation, bool BIAS, bool RESIDUAL>
struct Epilogue {
    using Storage = Storage_;
    using Value = typename Storage::Value;
    using Operands = typename Alike<Storage, 1 + BIAS + RESIDUAL>::Operands;
    static constexpr Noise NOISE = COMMON;
    static FASTDROP_INLINE bool reads(bool kept) { return kept || RESIDUAL; }
    // `a` and `b` are those of bias and residual that there are.
    static FASTDROP_INLINE Value apply(u32 noise, const Params& p, Value x, Value a = 0,
                                       Value b = 0) {
        const Value active = Activation::value(BIAS ? plus(x, a) : x);
        const Value kept = times(active, parameter<Value>(p, 0));
        const Value y = noise >= p.threshold ? kept : Value(0);
        return RESIDUAL ? plus(y, BIAS ? b : a) : y;
    }
};

// The gradient of x, and of the bias before it is summed.
template <class Storage_, class Activation, bool BIAS>
struct EpilogueBackward {
    using Storage = Storage_;
    using Value = typename Storage::Value;
    using Operands = typename Alike<Storage, 2 + BIAS>::Operands;
    static constexpr Noise NOISE = COMMON;
    static FASTDROP_INLINE bool reads(bool kept) { return kept; }
    static FASTDROP_INLINE Value apply(u32 noise, const Params& p, Value dy, Value x,
                                       Value bias = 0) {
        const Value kept = times(dy, parameter<Value>(p, 0));
        const Value dx = Activation::back(kept, BIAS ? plus(x, bias) : x);
        return noise >= p.threshold ? dx : Value(0);
    }
};

}  // namespace fastdrop
