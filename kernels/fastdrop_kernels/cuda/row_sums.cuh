// What the softmax kernels sum: exponentials of scores relative to the largest of them.

namespace fastdrop {

// What the exponentials of scores are relative to, given the largest score.
template <class Value>
struct Reference;

template <>
struct Reference<double> {
    double base;

    explicit FASTDROP_INLINE Reference(double largest) : base(largest) {}

    template <int N>
    FASTDROP_INLINE void take_exponentials(double (&x)[N]) const {
#pragma unroll
        for (int i = 0; i < N; ++i) x[i] = exp(x[i] - base);
    }
    FASTDROP_INLINE double relative_to(const Reference& other) const {
        return exp(base - other.base);
    }
};

// For float32, exp(base) * 2**power. Exponentials are powers of 2, a fused multiplication and an
// instruction of the hardware each. `power` is an integer near largest * log2(e), so that
// references differ by powers of two, which are exact.
//
// The product x * log2(e) is not rounded before `power` is subtracted. The exponential of a score d
// below the largest is accurate to 2 ulp, and 0.61 ulp times d: 0.5 for this rounding, the rest for
// that of log2(e). A subtraction first, and then a product, would be two roundings, and one more
// instruction. It is only needed for scores above 2**22: their products with log2(e) have no
// fractional digits, and beyond 2**127 none at all.
template <>
struct Reference<float> {
    static constexpr float LOG2_E = 1.4426950408889634f, LIMIT = 4194304.0f;
    float base, power;

    explicit FASTDROP_INLINE Reference(float largest) {
        const bool small = largest > -LIMIT && largest < LIMIT;
        base = small ? 0.0f : largest;
        power = small ? rintf(multiply(largest, LOG2_E)) : 0.0f;
    }

    template <int N>
    FASTDROP_INLINE void take_exponentials(float (&x)[N]) const {
        if (base != 0.0f) {
#pragma unroll
            for (int i = 0; i < N; ++i) x[i] = subtract(x[i], base);
        }
#pragma unroll
        for (int i = 0; i < N; ++i) x[i] = power_of_two(multiply_add(x[i], LOG2_E, -power));
    }
    FASTDROP_INLINE float relative_to(const Reference& other) const {
        return power_of_two(multiply_add(base - other.base, LOG2_E, power - other.power));
    }
};

// The least finite number.
template <class Value>
FASTDROP_INLINE Value lowest() {
    if constexpr (sizeof(Value) == 8) return bit_cast<double>(0xFFEFFFFFFFFFFFFFull);
    else return bit_cast<float>(0xFF7FFFFFu);
}

// Partial results of a row: the largest score; relative to the reference that it gives, the sum of
// the exponentials, and, in the backward, of their products with the gradient of the softmax.
template <class Value>
struct Sums {
    Value largest, sum, product;

    FASTDROP_INLINE void rescale(Value new_largest) {
        const Value factor = Reference<Value>(largest).relative_to(Reference<Value>(new_largest));
        largest = new_largest;
        sum = multiply(sum, factor);
        product = multiply(product, factor);
    }
    FASTDROP_INLINE void merge(Sums other) {
        const Value top = larger(largest, other.largest);
        rescale(top);
        other.rescale(top);
        sum = add(sum, other.sum);
        product = add(product, other.product);
    }
};

}  // namespace fastdrop
