// The standard normal of a 32-bit uniform: what cpu/normal.py says, by the same operations in the same
// order, so that CPU and GPU give the same bits. quantile.py says how, and has the coefficients.

namespace fastdrop {

FASTDROP_INLINE float square_root(float x) {
#ifdef __CUDA_ARCH__
    float root;
    asm("sqrt.rn.f32 %0, %1;" : "=f"(root) : "f"(x));
    return root;
#else
    return __builtin_sqrtf(x);
#endif
}

FASTDROP_INLINE float minus_log(float y) {
    constexpr float LOGARITHM[] = FASTDROP_LOGARITHM;
    constexpr int DEGREE = sizeof(LOGARITHM) / sizeof(float) - 1;
    const u32 bits = cast<u32>(y);
    const float exponent = float(int(127u - (bits >> 23)));
    const float t = cast<float>((bits & 0x007FFFFFu) | 0x3F800000u) - 1.5f;
    float sum = LOGARITHM[DEGREE];
#pragma unroll
    for (int k = DEGREE - 1; k >= 0; --k) sum = sum * t + LOGARITHM[k];
    return exponent * FASTDROP_LOG_2 - sum;
}

// The quantile of (u + 0.5) / 2**32.
FASTDROP_INLINE float standard_normal(u32 u) {
    constexpr float CENTRAL[] = FASTDROP_CENTRAL, TAIL[] = FASTDROP_TAIL;
    constexpr int DEGREE = sizeof(TAIL) / sizeof(float) - 1;
    static_assert(sizeof(TAIL) == sizeof(CENTRAL), "one loop goes along both");
    const u32 lower = u >> 31 ? ~u : u;
    const float scale = 4.656612873077393e-10f;  // 2**-31
    const float a = (float(int(lower)) + 0.5f) * scale;
    const float x = (float(int(lower ^ 0x7FFFFFFFu)) + 0.5f) * scale;
    const float w = minus_log(a * (2.0f - a));
    const bool far = w >= FASTDROP_SPLIT;
    const float root = square_root(far ? w : FASTDROP_SPLIT);
    const float t = far ? root - FASTDROP_TAIL_CENTRE : w - FASTDROP_CENTRE;
    float y = far ? TAIL[DEGREE] : CENTRAL[DEGREE];
#pragma unroll
    for (int k = DEGREE - 1; k >= 0; --k) y = y * t + (far ? TAIL[k] : CENTRAL[k]);
    return cast<float>(cast<u32>(x * y) | (~u & 0x80000000u));
}

}  // namespace fastdrop
