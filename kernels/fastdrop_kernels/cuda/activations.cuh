// Activations: what they make of a number, and the gradient that they pass back.
//
// Their inner arithmetic may round and flush as the compiler likes, and is right to a few units in
// the last place of the result (gelu far below 0, where Phi falls fast, to as many times x**2); what
// must be exact goes through `times` and `plus`. The identity and ReLU are exact.
// Infinities give limits, and not the NaN of infinity times 0.

namespace fastdrop {

FASTDROP_INLINE float exponential(float x) { return expf(x); }
FASTDROP_INLINE double exponential(double x) { return exp(x); }
FASTDROP_INLINE float complementary_error_function(float x) { return erfcf(x); }
FASTDROP_INLINE double complementary_error_function(double x) { return erfc(x); }
FASTDROP_INLINE float hyperbolic_tangent(float x) { return tanhf(x); }
FASTDROP_INLINE double hyperbolic_tangent(double x) { return tanh(x); }

// To a unit in the last place; a division takes four times as many instructions.
FASTDROP_INLINE float reciprocal(float x) {
#ifdef __CUDA_ARCH__
    float result;
    asm("rcp.approx.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
#else
    return 1.0f / x;
#endif
}
FASTDROP_INLINE double reciprocal(double x) { return 1.0 / x; }

// Whether a number is 0 or below, and no NaN. As C++ writes it, so would all subnormals be.
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

// The logistic function of x and of -x, each to a few units in its own last place.
template <class Value>
struct Shares {
    Value share, other;

    explicit FASTDROP_INLINE Shares(Value x) {
        const Value e = exponential(x < 0 ? x : -x), large = reciprocal(Value(1) + e);
        share = x < 0 ? e * large : large;
        other = x < 0 ? large : e * large;
    }
};

// As far out, all functions here have reached their limits.
template <class Value>
constexpr Value FAR = sizeof(Value) == 8 ? 1024 : 128;

template <class Value>
FASTDROP_INLINE Value bounded(Value x) {
    return x < -FAR<Value> ? -FAR<Value> : x > FAR<Value> ? FAR<Value> : x;  // a NaN stays
}

// x, and -FAR far below, where a function that it is multiplied by is 0.
template <class Value>
FASTDROP_INLINE Value bounded_below(Value x) {
    return x < -FAR<Value> ? -FAR<Value> : x;
}

// x times the logistic function of z. Where that is too small for a normal number, the product need
// not be: x is multiplied by two square roots of it.
template <class Value>
FASTDROP_INLINE Value by_logistic(Value x, Value z) {
    const Value root = exponential(Value(0.5) * (z < 0 ? z : -z));
    const Value large = reciprocal(Value(1) + root * root);
    return z < 0 ? times(times(times(x, root), large), root) : times(x, large);
}

struct Identity {
    template <class Value>
    static FASTDROP_INLINE Value value(Value x) { return x; }
    template <class Value>
    static FASTDROP_INLINE Value back(Value dy, Value) { return dy; }
};

struct Relu {
    template <class Value>
    static FASTDROP_INLINE Value value(Value x) { return is_not_positive(x) ? Value(0) : x; }
    template <class Value>
    static FASTDROP_INLINE Value back(Value dy, Value x) {
        return is_not_positive(x) ? Value(0) : dy;
    }
};

// x times the normal distribution's Phi: D. Hendrycks and K. Gimpel, "Gaussian error linear units",
// 2016.
struct Gelu {
    template <class Value>
    static FASTDROP_INLINE Value phi(Value x) {
        return Value(0.5) * complementary_error_function(x * Value(-0.7071067811865476));
    }
    template <class Value>
    static FASTDROP_INLINE Value value(Value x) { return times(bounded_below(x), phi(x)); }
    template <class Value>
    static FASTDROP_INLINE Value back(Value dy, Value x) {
        x = bounded(x);
        const Value density = exponential(Value(-0.5) * x * x) * Value(0.3989422804014327);
        return times(dy, phi(x) + x * density);
    }
};

// The same with their approximation of Phi, half of 1 + tanh(z): the logistic function of 2 z.
struct GeluTanh {
    static constexpr double FACTOR = 1.5957691216057308, CUBIC = 0.044715;  // 2 * sqrt(2 / pi)
    template <class Value>
    static FASTDROP_INLINE Value inner(Value x) {
        return Value(FACTOR) * x * (Value(1) + Value(CUBIC) * x * x);
    }
    template <class Value>
    static FASTDROP_INLINE Value value(Value x) {
        x = bounded_below(x);
        return by_logistic(x, inner(x));
    }
    template <class Value>
    static FASTDROP_INLINE Value back(Value dy, Value x) {
        x = bounded(x);
        const Shares<Value> phi(inner(x));
        const Value slope = Value(FACTOR) * (Value(1) + Value(3 * CUBIC) * x * x);
        return times(dy, phi.share * (Value(1) + x * phi.other * slope));
    }
};

struct Silu {
    template <class Value>
    static FASTDROP_INLINE Value value(Value x) {
        x = bounded_below(x);
        return by_logistic(x, x);
    }
    template <class Value>
    static FASTDROP_INLINE Value back(Value dy, Value x) {
        x = bounded(x);
        const Shares<Value> s(x);
        return times(dy, s.share * (Value(1) + x * s.other));
    }
};

struct Tanh {
    template <class Value>
    static FASTDROP_INLINE Value value(Value x) {
        const bool tiny = x * x < Value(sizeof(Value) == 8 ? 1e-17 : 1e-8);  // tanh would be x
        return tiny ? x : hyperbolic_tangent(x);
    }
    template <class Value>
    static FASTDROP_INLINE Value back(Value dy, Value x) {
        // 1 - tanh(x)**2, which would cancel, by the logistic function of 2 x and of -2 x.
        const Value e = exponential(Value(-2) * (x < 0 ? -x : x)), large = reciprocal(Value(1) + e);
        return times(dy, Value(4) * e * large * large);
    }
};

}  // namespace fastdrop
