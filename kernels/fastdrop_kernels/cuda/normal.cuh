// The standard normal of a 32-bit uniform: what cpu/normal.py says, by the same operations in the same
// order, so that CPU and GPU give the same bits. quantile.py says how, and has the coefficients.

namespace fastdrop {

FASTDROP_INLINE float minus_log(float y) {
    constexpr float LOGARITHM[] = FASTDROP_LOGARITHM;
    constexpr int DEGREE = sizeof(LOGARITHM) / sizeof(float) - 1;
    const u32 bits = cast<u32>(y);
    const float exponent = float(int(127u - (bits >> 23)));
    const float t = minus(cast<float>((bits & 0x007FFFFFu) | 0x3F800000u), 1.5f);
    float sum = LOGARITHM[DEGREE];
#pragma unroll
    for (int k = DEGREE - 1; k >= 0; --k) sum = plus(times(sum, t), LOGARITHM[k]);
    return minus(times(exponent, FASTDROP_LOG_2), sum);
}

// The quantile of (u + 0.5) / 2**32.
FASTDROP_INLINE float standard_normal(u32 u) {
    constexpr float CENTRAL[] = FASTDROP_CENTRAL, TAIL[] = FASTDROP_TAIL;
    constexpr float CENTRE = FASTDROP_CENTRE, TAIL_CENTRE = FASTDROP_TAIL_CENTRE;
    constexpr float SPLIT = FASTDROP_SPLIT, STEP = 4.656612873077393e-10f;  // 2**-31
    constexpr int DEGREE = sizeof(TAIL) / sizeof(float) - 1;
    static_assert(sizeof(TAIL) == sizeof(CENTRAL), "one loop goes along both");
    const u32 lower = u >> 31 ? ~u : u;
    const float a = times(plus(float(int(lower)), 0.5f), STEP);
    const float x = times(plus(float(int(lower ^ 0x7FFFFFFFu)), 0.5f), STEP);
    const float w = minus_log(times(a, minus(2.0f, a)));
    // As integers, which order floats alike if one of them is positive.
    const bool far = cast<int>(w) >= cast<int>(SPLIT);
    const float t = far ? minus(root(w), TAIL_CENTRE) : minus(w, CENTRE);
    float y = far ? TAIL[DEGREE] : CENTRAL[DEGREE];
#pragma unroll
    for (int k = DEGREE - 1; k >= 0; --k) y = plus(times(y, t), far ? TAIL[k] : CENTRAL[k]);
    return cast<float>(cast<u32>(times(x, y)) | (~u & 0x80000000u));
}

}  // namespace fastdrop
