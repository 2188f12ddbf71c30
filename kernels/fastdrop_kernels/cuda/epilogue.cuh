// The epilogue of a linear layer as one operation: bias, activation, dropout, residual. Without
// bias or residual, no code for them is compiled.

namespace fastdrop {

// N operands of the same storage type.
template <class Storage, int N, class... Storages>
struct Alike {
    using Operands = typename Alike<Storage, N - 1, Storage, Storages...>::Operands;
};
template <class Storage, class... Storages>
struct Alike<Storage, 0, Storages...> {
    using Operands = Reads<Storages...>;
};

// dropout(activation(x + bias)) + residual, with the parameter as the scale of kept elements.
template <class Storage_, class Activation, bool BIAS, bool RESIDUAL>
struct BiasActDrop {
    using Storage = Storage_;
    using Value = typename Storage::Value;
    using Operands = typename Alike<Storage, 1 + BIAS + RESIDUAL>::Operands;
    static constexpr Uniforms UNIFORMS = COMPARE_COMMON;
    static FASTDROP_INLINE bool reads(bool kept) { return kept || RESIDUAL; }
    // `a` and `b` are bias and residual, as far as present.
    static FASTDROP_INLINE Value apply(bool kept, const Params& p, Value x, Value a = 0,
                                       Value b = 0) {
        const Value active = Activation::value(BIAS ? add(x, a) : x);
        const Value scaled = multiply(active, parameter<Value>(p, 0));
        const Value y = kept ? scaled : Value(0);
        return RESIDUAL ? add(y, BIAS ? b : a) : y;
    }
};

// The gradient with respect to x, which is also that of the bias before the sum.
template <class Storage_, class Activation, bool BIAS>
struct BiasActDropBackward {
    using Storage = Storage_;
    using Value = typename Storage::Value;
    using Operands = typename Alike<Storage, 2 + BIAS>::Operands;
    static constexpr Uniforms UNIFORMS = COMPARE_COMMON;
    static FASTDROP_INLINE bool reads(bool kept) { return kept; }
    static FASTDROP_INLINE Value apply(bool kept, const Params& p, Value dy, Value x,
                                       Value bias = 0) {
        const Value scaled = multiply(dy, parameter<Value>(p, 0));
        const Value dx = Activation::gradient(scaled, BIAS ? add(x, bias) : x);
        return kept ? dx : Value(0);
    }
};

}  // namespace fastdrop
