// Activations: their values, and their gradients.
//
// The compiler may round and flush inner arithmetic as it likes; results are accurate to a few ulp
// (gelu for large negative x, where Phi falls fast, to as many times x**2). Products that must be
// exact use `multiply`. The identity and ReLU are exact. At infinities the results are limits, not
// the NaN of infinity times 0.

namespace fastdrop {

// x <= 0, false for NaN. In PTX, because the C++ comparison would flush subnormals to zero.
FASTDROP_INLINE bool is_not_positive(float x) {
#ifdef __CUDA_ARCH__
    u32 result;
    asm("{.reg .pred so;\n\tsetp.le.f32 so, %1, 0f00000000;\n\tselp.u32 %0, 1, 0, so;}"
        : "=r"(result) : "f"(x));
    return result != 0;
#else
    return x <= 0.0f;
#endif
}
FASTDROP_INLINE bool is_not_positive(double x) { return x <= 0.0; }

// Beyond this, all functions here have reached their limits.
template <class Value>
constexpr Value FAR = sizeof(Value) == 8 ? 1024 : 128;

template <class Value>
FASTDROP_INLINE Value magnitude(Value x) { return magnitude(x, FAR<Value>); }

// max(x, -FAR): below, the function that x is multiplied by is 0, and -inf would give NaN.
template <class Value>
FASTDROP_INLINE Value clamp_below(Value x) { return at_least(x, -FAR<Value>); }

template <class Value>
FASTDROP_INLINE Value clamp(Value x) {
    x = clamp_below(x);
    return x > FAR<Value> ? FAR<Value> : x;  // a NaN stays
}

// The logistic function of z and of -z, each accurate to a few ulp of its own. That of z may
// underflow where its product is still normal: it is multiplied by the square root twice.
template <class Value>
struct Logistic {
    Value factor, large, complement;

    explicit FASTDROP_INLINE Logistic(Value z) {
        const Value root = exponential(Value(-0.5) * magnitude(z)), e = multiply(root, root);
        large = reciprocal(Value(1) + e);
        factor = z < 0 ? root : Value(1);
        complement = z < 0 ? large : multiply(e, large);
    }
    FASTDROP_INLINE Value times(Value x) const {
        return multiply(multiply(multiply(x, factor), large), factor);
    }
};

struct Identity {
    template <class Value>
    static FASTDROP_INLINE Value value(Value x) { return x; }
    template <class Value>
    static FASTDROP_INLINE Value gradient(Value dy, Value) { return dy; }
};

struct Relu {
    template <class Value>
    static FASTDROP_INLINE Value value(Value x) { return is_not_positive(x) ? Value(0) : x; }
    template <class Value>
    static FASTDROP_INLINE Value gradient(Value dy, Value x) {
        return is_not_positive(x) ? Value(0) : dy;
    }
};

// x * Phi(x), with the distribution function of the standard normal: D. Hendrycks and K. Gimpel,
// "Gaussian error linear units", 2016. Both are made of Phi(-|x|), which does not cancel.
struct Gelu {
    template <class Value>
    static FASTDROP_INLINE Value value(Value x) {
        const Value z = magnitude(x);
        return multiply_add(-z, Normal<Value>(z).tail, larger(x, Value(0)));
    }
    template <class Value>
    static FASTDROP_INLINE Value gradient(Value dy, Value x) {
        const Value z = magnitude(x);
        const Normal<Value> normal(z);
        const Value below = multiply_add(-z, normal.density, normal.tail);  // at -|x|
        return multiply(dy, x < 0 ? below : Value(1) - below);
    }
};

// The same with the approximation Phi = (1 + tanh(z)) / 2, the logistic function of 2 z.
struct GeluTanh {
    static constexpr double FACTOR = 1.5957691216057308, CUBIC = 0.044715;  // 2 * sqrt(2 / pi)
    template <class Value>
    static FASTDROP_INLINE Value inner(Value x) {
        return multiply(x, multiply_add(multiply(x, x), Value(FACTOR * CUBIC), Value(FACTOR)));
    }
    template <class Value>
    static FASTDROP_INLINE Value value(Value x) {
        x = clamp_below(x);
        return Logistic<Value>(inner(x)).times(x);
    }
    template <class Value>
    static FASTDROP_INLINE Value gradient(Value dy, Value x) {
        x = clamp(x);
        const Logistic<Value> phi(inner(x));
        const Value slope = multiply_add(multiply(x, x), Value(3 * FACTOR * CUBIC), Value(FACTOR));
        const Value rise = multiply_add(multiply(x, phi.complement), slope, Value(1));
        return multiply(dy, phi.times(rise));
    }
};

struct Silu {
    template <class Value>
    static FASTDROP_INLINE Value value(Value x) {
        x = clamp_below(x);
        return Logistic<Value>(x).times(x);
    }
    template <class Value>
    static FASTDROP_INLINE Value gradient(Value dy, Value x) {
        x = clamp(x);
        const Logistic<Value> s(x);
        return multiply(dy, s.times(multiply_add(x, s.complement, Value(1))));
    }
};

struct Tanh {
    template <class Value>
    static FASTDROP_INLINE Value value(Value x) {
        const bool tiny = x * x < Value(sizeof(Value) == 8 ? 1e-17 : 1e-8);  // tanh(x) rounds to x
        return tiny ? x : hyperbolic_tangent(x);
    }
    template <class Value>
    static FASTDROP_INLINE Value gradient(Value dy, Value x) {
        // 1 - tanh(x)**2 without cancellation: 4 times the logistic functions of 2 x and of -2 x.
        const Value e = exponential(Value(-2) * magnitude(x)), large = reciprocal(Value(1) + e);
        return multiply(dy, Value(4) * e * large * large);
    }
};

}  // namespace fastdrop
