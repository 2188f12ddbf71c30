// Activations: their values, and their gradients.
//
// The compiler may round and flush inner arithmetic as it likes; results are accurate to a few ulp
// (gelu for large negative x, where Phi falls fast, to as many times x**2). Products that must be
// exact use `multiply`. The identity and ReLU are exact. At infinities the results are limits, not
// the NaN of infinity times 0.

namespace fastdrop {

FASTDROP_INLINE float exponential(float x) { return expf(x); }
FASTDROP_INLINE double exponential(double x) { return exp(x); }
FASTDROP_INLINE float complementary_error_function(float x) { return erfcf(x); }
FASTDROP_INLINE double complementary_error_function(double x) { return erfc(x); }
FASTDROP_INLINE float hyperbolic_tangent(float x) { return tanhf(x); }
FASTDROP_INLINE double hyperbolic_tangent(double x) { return tanh(x); }

// Accurate to 1 ulp; a division takes four times as many instructions.
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

// The logistic function of x and of -x, each accurate to a few ulp of its own.
template <class Value>
struct Logistic {
    Value value, complement;

    explicit FASTDROP_INLINE Logistic(Value x) {
        const Value e = exponential(x < 0 ? x : -x), large = reciprocal(Value(1) + e);
        value = x < 0 ? e * large : large;
        complement = x < 0 ? large : e * large;
    }
};

// Beyond this, all functions here have reached their limits.
template <class Value>
constexpr Value FAR = sizeof(Value) == 8 ? 1024 : 128;

template <class Value>
FASTDROP_INLINE Value clamp(Value x) {
    return x < -FAR<Value> ? -FAR<Value> : x > FAR<Value> ? FAR<Value> : x;  // a NaN stays
}

// max(x, -FAR): below, the function that x is multiplied by is 0, and -inf would give NaN.
template <class Value>
FASTDROP_INLINE Value clamp_below(Value x) {
    return x < -FAR<Value> ? -FAR<Value> : x;
}

// x times the logistic function of z. If that underflows, the product may still be normal: x is
// multiplied by its square root twice.
template <class Value>
FASTDROP_INLINE Value times_logistic(Value x, Value z) {
    const Value root = exponential(Value(0.5) * (z < 0 ? z : -z));
    const Value large = reciprocal(Value(1) + root * root);
    return z < 0 ? multiply(multiply(multiply(x, root), large), root) : multiply(x, large);
}

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
// "Gaussian error linear units", 2016.
struct Gelu {
    template <class Value>
    static FASTDROP_INLINE Value phi(Value x) {
        return Value(0.5) * complementary_error_function(x * Value(-0.7071067811865476));
    }
    template <class Value>
    static FASTDROP_INLINE Value value(Value x) { return multiply(clamp_below(x), phi(x)); }
    template <class Value>
    static FASTDROP_INLINE Value gradient(Value dy, Value x) {
        x = clamp(x);
        const Value density = exponential(Value(-0.5) * x * x) * Value(0.3989422804014327);
        return multiply(dy, phi(x) + x * density);
    }
};

// The same with the approximation Phi = (1 + tanh(z)) / 2, the logistic function of 2 z.
struct GeluTanh {
    static constexpr double FACTOR = 1.5957691216057308, CUBIC = 0.044715;  // 2 * sqrt(2 / pi)
    template <class Value>
    static FASTDROP_INLINE Value inner(Value x) {
        return Value(FACTOR) * x * (Value(1) + Value(CUBIC) * x * x);
    }
    template <class Value>
    static FASTDROP_INLINE Value value(Value x) {
        x = clamp_below(x);
        return times_logistic(x, inner(x));
    }
    template <class Value>
    static FASTDROP_INLINE Value gradient(Value dy, Value x) {
        x = clamp(x);
        const Logistic<Value> phi(inner(x));
        const Value slope = Value(FACTOR) * (Value(1) + Value(3 * CUBIC) * x * x);
        return multiply(dy, phi.value * (Value(1) + x * phi.complement * slope));
    }
};

struct Silu {
    template <class Value>
    static FASTDROP_INLINE Value value(Value x) {
        x = clamp_below(x);
        return times_logistic(x, x);
    }
    template <class Value>
    static FASTDROP_INLINE Value gradient(Value dy, Value x) {
        x = clamp(x);
        const Logistic<Value> s(x);
        return multiply(dy, s.value * (Value(1) + x * s.complement));
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
        const Value e = exponential(Value(-2) * (x < 0 ? -x : x)), large = reciprocal(Value(1) + e);
        return multiply(dy, Value(4) * e * large * large);
    }
};

}  // namespace fastdrop
