// The standard normal quantile of a 32-bit uniform, by the same operations in the same order as in
// cpu/elements/math.py, so that CPU and GPU give the same bits. normal_coefficients.py explains
// the approximation.

namespace fastdrop {

// A polynomial by Horner's rule, with coefficients in ascending order, each times a power of two.
template <int N>
FASTDROP_INLINE float polynomial(const float (&coefficients)[N], float t, float unit = 1.0f) {
    float sum = coefficients[N - 1] * unit;
#pragma unroll
    for (int k = N - 2; k >= 0; --k) sum = add(multiply(sum, t), coefficients[k] * unit);
    return sum;
}

// -log(y).
FASTDROP_INLINE float minus_log(float y) {
    constexpr float LOGARITHM[] = FASTDROP_LOGARITHM;
    constexpr float LOG_2 = FASTDROP_LOG_2;
    const u32 bits = bit_cast<u32>(y);
    // As a float, 2**25 less two times the exponent with its sign changed: (2**25 - number) / 2,
    // times LOG_2 and rounded once, without a conversion.
    const u32 number = (bits >> 23) + (0x4C000000u - 127u);
    const float power = multiply_add(bit_cast<float>(number), -0.5f * LOG_2, 16777216.0f * LOG_2);
    // With the exponent 0: the low bits of `number`, shifted away, are those of the exponent field.
    const float t = subtract(bit_cast<float>(bits - (number << 23)), 1.5f);
    return subtract(power, polynomial(LOGARITHM, t));
}

// The quantiles of (u + 0.5) / 2**32.
//
// The CPU multiplies by 2**-31 apart. Here the product that makes a is fused with the sum before
// it, and x is in units of 2**-31, as are the coefficients that it is multiplied by: powers of two
// change no digit.
//
// One element in 490 is far, so one warp in 16 has one at a given place of its groups, and four in
// ten have one in eight places. A branch for the group and in it one for each element take 5
// instructions an element. Without the first it was 8, since constants are loaded again behind a
// branch; coefficients selected between, and the root of all, were 28.
template <int E>
FASTDROP_INLINE void standard_normals(const u32 (&uniform)[E], float (&normal)[E]) {
    constexpr float CENTRAL[] = FASTDROP_CENTRAL, TAIL[] = FASTDROP_TAIL;
    constexpr float CENTRE = FASTDROP_CENTRE, TAIL_CENTRE = FASTDROP_TAIL_CENTRE;
    constexpr float SPLIT = FASTDROP_SPLIT, UNIT = 4.656612873077393e-10f;  // 2**-31
    float x[E], w[E], f[E];
    bool is_far[E], any_far = false;
#pragma unroll
    for (int e = 0; e < E; ++e) {
        const u32 u = uniform[e], lower = u >> 31 ? ~u : u;
        const float a = multiply_add(float(int(lower)), UNIT, 0.5f * UNIT);
        x[e] = add(float(int(lower ^ 0x7FFFFFFFu)), 0.5f);
        w[e] = minus_log(multiply(a, subtract(2.0f, a)));
        f[e] = polynomial(CENTRAL, subtract(w[e], CENTRE), UNIT);
        // Compared as integers, which have the same order as positive floats.
        is_far[e] = bit_cast<int>(w[e]) >= bit_cast<int>(SPLIT);
        any_far |= is_far[e];
    }
    if (any_far) {
#pragma unroll
        for (int e = 0; e < E; ++e)
            if (is_far[e]) f[e] = polynomial(TAIL, subtract(root(w[e]), TAIL_CENTRE), UNIT);
    }
#pragma unroll
    for (int e = 0; e < E; ++e) {
        const u32 magnitude = bit_cast<u32>(multiply(x[e], f[e]));
        normal[e] = bit_cast<float>(magnitude | (~uniform[e] & 0x80000000u));
    }
}

}  // namespace fastdrop
