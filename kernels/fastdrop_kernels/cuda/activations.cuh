// Activations: what they make of a number, and the gradient that they pass back.
//
// Their inner arithmetic may round and flush as the compiler likes, and is right to a few units in
// the last place of the number; what must be exact goes through `times` and `plus`. The identity and
// ReLU are exact. At infinities that are multiplied by 0, there is a NaN, as in PyTorch.

namespace fastdrop {

FASTDROP_INLINE float exponential(float x) { return expf(x); }
FASTDROP_INLINE double exponential(double x) { return exp(x); }
FASTDROP_INLINE float error_function(float x) { return erff(x); }
FASTDROP_INLINE double error_function(double x) { return erf(x); }
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

template <class Value>
FASTDROP_INLINE Value logistic(Value x) {
    return reciprocal(Value(1) + exponential(-x));
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
        return Value(0.5) * (Value(1) + error_function(x * Value(0.7071067811865476)));
    }
    template <class Value>
    static FASTDROP_INLINE Value value(Value x) { return times(x, phi(x)); }
    template <class Value>
    static FASTDROP_INLINE Value back(Value dy, Value x) {
        const Value density = exponential(Value(-0.5) * x * x) * Value(0.3989422804014327);
        return times(dy, phi(x) + x * density);
    }
};

// The same with their approximation of Phi, half of 1 + tanh(z): the logistic function of 2 z.
struct GeluTanh {
    static constexpr double FACTOR = 1.5957691216057308, CUBIC = 0.044715;  // 2 * sqrt(2 / pi)
    template <class Value>
    static FASTDROP_INLINE Value phi(Value x) {
        return logistic(Value(FACTOR) * x * (Value(1) + Value(CUBIC) * x * x));
    }
    template <class Value>
    static FASTDROP_INLINE Value value(Value x) { return times(x, phi(x)); }
    template <class Value>
    static FASTDROP_INLINE Value back(Value dy, Value x) {
        const Value squared = x * x;
        if (squared > Value(2000)) return x > 0 ? dy : Value(0);  // no infinity times 0
        const Value p = phi(x);
        const Value inner = Value(FACTOR) * (Value(1) + Value(3 * CUBIC) * squared);
        return times(dy, p + x * p * (Value(1) - p) * inner);
    }
};

struct Silu {
    template <class Value>
    static FASTDROP_INLINE Value value(Value x) { return times(x, logistic(x)); }
    template <class Value>
    static FASTDROP_INLINE Value back(Value dy, Value x) {
        const Value s = logistic(x);
        return times(dy, s * (Value(1) + x * (Value(1) - s)));
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
        const Value t = hyperbolic_tangent(x);
        return times(dy, Value(1) - t * t);
    }
};

}  // namespace fastdrop
