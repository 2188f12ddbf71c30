// Elementary functions of activations and softmax. Those of float32 are the hardware's
// approximations, with few instructions around them; those of float64 are the library's.
//
// In PTX, because CuPy's -ftz=true would flush subnormal operands and results to zero, and because
// -fmad=false, which other kernels need, would not fuse products. On the host, functions of
// tests/support/cuda_host/shim.h have errors as large as the hardware's may be.

namespace fastdrop {

// 2**x to 2 ulp. Exact for integers; 0 for results below 2**-126, which is the least normal number.
FASTDROP_INLINE float power_of_two(float x) {
#ifdef __CUDA_ARCH__
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
#else
    return approximate_power_of_two(x);
#endif
}

// 1 / x to 1 ulp, for x from 2**-126 to 2**126. A division takes four times as many instructions.
FASTDROP_INLINE float reciprocal(float x) {
#ifdef __CUDA_ARCH__
    float result;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
#else
    return approximate_reciprocal(x);
#endif
}
FASTDROP_INLINE double reciprocal(double x) { return 1.0 / x; }

// a * b + c, rounded once.
FASTDROP_INLINE float multiply_add(float a, float b, float c) {
#ifdef __CUDA_ARCH__
    float result;
    asm("fma.rn.f32 %0, %1, %2, %3;" : "=f"(result) : "f"(a), "f"(b), "f"(c));
    return result;
#else
    return fmaf(a, b, c);
#endif
}
FASTDROP_INLINE double multiply_add(double a, double b, double c) { return fma(a, b, c); }

// The larger of two numbers; of a number and a NaN, the number.
FASTDROP_INLINE float larger(float a, float b) {
#ifdef __CUDA_ARCH__
    float result;
    asm("max.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
    return result;
#else
    return fmaxf(a, b);
#endif
}
FASTDROP_INLINE double larger(double a, double b) { return fmax(a, b); }

// min(|x|, limit) and max(x, limit). A NaN stays.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
FASTDROP_INLINE float magnitude(float x, float limit) {
    float result;
    asm("{.reg .f32 positive;\n\tabs.f32 positive, %1;\n\tmin.NaN.f32 %0, positive, %2;}"
        : "=f"(result) : "f"(x), "f"(limit));
    return result;
}
FASTDROP_INLINE float at_least(float x, float limit) {
    float result;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(x), "f"(limit));
    return result;
}
#else
FASTDROP_INLINE float magnitude(float x, float limit) {
    const float positive = bit_cast<float>(bit_cast<u32>(x) & 0x7FFFFFFFu);
    return positive > limit ? limit : positive;
}
FASTDROP_INLINE float at_least(float x, float limit) { return x < limit ? limit : x; }
#endif
FASTDROP_INLINE double magnitude(double x, double limit) {
    const double positive = x < 0 ? -x : x;
    return positive > limit ? limit : positive;
}
FASTDROP_INLINE double at_least(double x, double limit) { return x < limit ? limit : x; }

// exp(x) for finite x up to 0, accurate to 3 ulp: the power of two of x * log2(e), times the
// exponential of what the rounding of that product has lost. expf takes 8 instructions and this 4.
FASTDROP_INLINE float exponential(float x) {
    const float power = multiply(x, 1.4426950408889634f), e = power_of_two(power);
    return multiply_add(e, multiply_add(power, -0.6931471805599453f, x), e);
}
FASTDROP_INLINE double exponential(double x) { return exp(x); }

FASTDROP_INLINE float hyperbolic_tangent(float x) { return tanhf(x); }
FASTDROP_INLINE double hyperbolic_tangent(double x) { return tanh(x); }

// The standard normal distribution for z from 0 on: the density at z, and the probability of more.
template <class Value>
struct Normal;

template <>
struct Normal<double> {
    double density, tail;

    explicit FASTDROP_INLINE Normal(double z)
        : density(exp(-0.5 * z * z) * 0.3989422804014327),
          tail(0.5 * erfc(z * 0.7071067811865476)) {}
};

// The tail is exp(-z**2 / 2) times a polynomial of t = 1 / (1 + STEEPNESS * z) without a constant
// term. Its relative error is below 2.1e-8 for z up to 14, beyond which all is 0; it was fitted
// like those of normal_coefficients.py. In float32, it has an error of 3 ulp, and the exponential
// one of 2 ulp, and 0.5 ulp times z**2. erfcf takes 57 instructions and this 16. A polynomial of
// degree 5 instead of 9 would save 4 more, and be accurate to 3.5e-5: enough for bfloat16, not for
// float32.
template <>
struct Normal<float> {
    float density, tail;

    explicit FASTDROP_INLINE Normal(float z) {
        constexpr float STEEPNESS = 0.345f;
        constexpr float COEFFICIENTS[] = {
            0.137619287f, 0.138020888f, 0.117238313f, 0.111799493f, -0.0376014337f,
            0.187196329f, -0.271172762f, 0.145281821f, -0.0283819251f,
        };
        constexpr int LAST = sizeof(COEFFICIENTS) / sizeof(float) - 1;
        const float e = power_of_two(multiply(multiply(z, -0.7213475204444817f), z));
        const float t = reciprocal(multiply_add(z, STEEPNESS, 1.0f));
        float sum = COEFFICIENTS[LAST];
#pragma unroll
        for (int k = LAST - 1; k >= 0; --k) sum = multiply_add(sum, t, COEFFICIENTS[k]);
        density = multiply(e, 0.3989422804014327f);
        tail = multiply(e, multiply(t, sum));
    }
};

}  // namespace fastdrop
