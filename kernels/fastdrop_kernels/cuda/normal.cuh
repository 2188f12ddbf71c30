// The standard normal quantile of a 32-bit uniform, by the same operations in the same order as in
// cpu/elements/normal.py, so that CPU and GPU give the same bits. normal_coefficients.py explains
// the approximation.

namespace fastdrop {

FASTDROP_INLINE float minus_log(float y) {
    constexpr float LOGARITHM[] = FASTDROP_LOGARITHM;
    constexpr int DEGREE = sizeof(LOGARITHM) / sizeof(float) - 1;
    const u32 bits = bit_cast<u32>(y);
    const float exponent = float(int(127u - (bits >> 23)));
    const float t = subtract(bit_cast<float>((bits & 0x007FFFFFu) | 0x3F800000u), 1.5f);
    float sum = LOGARITHM[DEGREE];
#pragma unroll
    for (int k = DEGREE - 1; k >= 0; --k) sum = add(multiply(sum, t), LOGARITHM[k]);
    return subtract(multiply(exponent, FASTDROP_LOG_2), sum);
}

// The quantile of (u + 0.5) / 2**32.
FASTDROP_INLINE float standard_normal(u32 u) {
    constexpr float CENTRAL[] = FASTDROP_CENTRAL, TAIL[] = FASTDROP_TAIL;
    constexpr float CENTRE = FASTDROP_CENTRE, TAIL_CENTRE = FASTDROP_TAIL_CENTRE;
    constexpr float SPLIT = FASTDROP_SPLIT, STEP = 4.656612873077393e-10f;  // 2**-31
    constexpr int DEGREE = sizeof(TAIL) / sizeof(float) - 1;
    static_assert(sizeof(TAIL) == sizeof(CENTRAL), "one loop evaluates both");
    const u32 lower = u >> 31 ? ~u : u;
    const float a = multiply(add(float(int(lower)), 0.5f), STEP);
    const float x = multiply(add(float(int(lower ^ 0x7FFFFFFFu)), 0.5f), STEP);
    const float w = minus_log(multiply(a, subtract(2.0f, a)));
    // Compared as integers, which have the same order as positive floats.
    const bool far = bit_cast<int>(w) >= bit_cast<int>(SPLIT);
    const float t = far ? subtract(root(w), TAIL_CENTRE) : subtract(w, CENTRE);
    float y = far ? TAIL[DEGREE] : CENTRAL[DEGREE];
#pragma unroll
    for (int k = DEGREE - 1; k >= 0; --k) y = add(multiply(y, t), far ? TAIL[k] : CENTRAL[k]);
    return bit_cast<float>(bit_cast<u32>(multiply(x, y)) | (~u & 0x80000000u));
}

}  // namespace fastdrop
