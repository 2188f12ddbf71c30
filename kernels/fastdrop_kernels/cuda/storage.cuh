// Storage types: how elements lie in memory, and the type they are computed with.
//
// A group of elements is kept in 32-bit words, as it lies in memory. A storage type says how many
// elements make a group of 16 bytes (the widest access), what byte an element begins at, and how
// values come out of words and go back. Memory is reached through the four functions at the end.

namespace fastdrop {

struct alignas(16) Quad {
    u32 word[4];
};

template <int SIZE> struct BitsOf;
template <> struct BitsOf<1> { using type = u8; };
template <> struct BitsOf<2> { using type = u16; };
template <> struct BitsOf<4> { using type = u32; };
template <> struct BitsOf<8> { using type = u64; };
template <> struct BitsOf<16> { using type = Quad; };

// Bits of one type as another of its size; compiles to nothing.
template <class To, class From>
FASTDROP_INLINE To cast(From from) {
    static_assert(sizeof(To) == sizeof(From), "sizes differ");
    To to;
    memcpy(&to, &from, sizeof(to));
    return to;
}

// Arithmetic that rounds once, to a subnormal number too, and is merged with nothing. CuPy compiles
// with -ftz=true whatever else it is told, and then float32 arithmetic as C++ writes it takes
// subnormals for zeros.
#ifdef __CUDA_ARCH__
#define FASTDROP_ROUNDED(NAME, PTX, OPERATOR)                                           \
    FASTDROP_INLINE float NAME(float a, float b) {                                      \
        float result;                                                                   \
        asm(PTX ".rn.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));                 \
        return result;                                                                  \
    }                                                                                   \
    FASTDROP_INLINE double NAME(double a, double b) { return a OPERATOR b; }
#else
#define FASTDROP_ROUNDED(NAME, PTX, OPERATOR)                                           \
    template <class Value>                                                              \
    FASTDROP_INLINE Value NAME(Value a, Value b) { return a OPERATOR b; }
#endif
FASTDROP_ROUNDED(times, "mul", *)
FASTDROP_ROUNDED(plus, "add", +)
FASTDROP_ROUNDED(minus, "sub", -)
#undef FASTDROP_ROUNDED

FASTDROP_INLINE float root(float x) {
#ifdef __CUDA_ARCH__
    float result;
    asm("sqrt.rn.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
#else
    return __builtin_sqrtf(x);
#endif
}

// A float32 as what is computed with.
template <class Value>
FASTDROP_INLINE Value computed(float x) {
#ifdef __CUDA_ARCH__
    if constexpr (sizeof(Value) == sizeof(double)) {
        double wide;
        asm("cvt.f64.f32 %0, %1;" : "=d"(wide) : "f"(x));
        return wide;
    }
#endif
    return x;
}

// Element e of words, and back. The place is known when this is compiled; words begin as zeros.
template <int SIZE>
FASTDROP_INLINE typename BitsOf<SIZE>::type taken(const u32* words, int e) {
    if constexpr (SIZE < 4) {
        constexpr int IN_WORD = 4 / SIZE;
        return typename BitsOf<SIZE>::type(words[e / IN_WORD] >> (e % IN_WORD * SIZE * 8));
    } else if constexpr (SIZE == 4) {
        return words[e];
    } else if constexpr (SIZE == 8) {
        return words[2 * e] | u64(words[2 * e + 1]) << 32;
    } else {
        return {{words[4 * e], words[4 * e + 1], words[4 * e + 2], words[4 * e + 3]}};
    }
}

template <int SIZE>
FASTDROP_INLINE void put(u32* words, int e, typename BitsOf<SIZE>::type bits) {
    if constexpr (SIZE < 4) {
        constexpr int IN_WORD = 4 / SIZE;
        words[e / IN_WORD] |= u32(bits) << (e % IN_WORD * SIZE * 8);
    } else if constexpr (SIZE == 4) {
        words[e] = bits;
    } else if constexpr (SIZE == 8) {
        words[2 * e] = u32(bits);
        words[2 * e + 1] = u32(bits >> 32);
    } else {
#pragma unroll
        for (int w = 0; w < 4; ++w) words[4 * e + w] = bits.word[w];
    }
}

// What storage types of whole bytes have in common.
template <int SIZE_, class Value_>
struct Bytes {
    using Value = Value_;
    static constexpr int SIZE = SIZE_;
    static constexpr int GROUP = 16 / SIZE;  // elements of 16 bytes
    static constexpr int TOGETHER = 1;       // elements that cannot be written one by one
    static FASTDROP_INLINE i64 bytes(i64 elements) { return elements * SIZE; }
    // Elements between an address and the aligned one below it.
    static FASTDROP_INLINE int elements_behind(u64 address) { return int(address % 16) / SIZE; }

    static FASTDROP_INLINE Value get(const u32* words, int e) {
        return cast<Value>(taken<SIZE>(words, e));
    }
    template <int E>
    static FASTDROP_INLINE void set(u32* words, const Value (&values)[E]) {
#pragma unroll
        for (int e = 0; e < E; ++e)
            put<SIZE>(words, e, cast<typename BitsOf<SIZE>::type>(values[e]));
    }
};

struct Float32 : Bytes<4, float> {};
struct Float64 : Bytes<8, double> {};
template <int SIZE> struct Moved : Bytes<SIZE, typename BitsOf<SIZE>::type> {};

struct Bool : Bytes<1, bool> {
    static FASTDROP_INLINE Value get(const u32* words, int e) { return taken<1>(words, e) != 0; }
    template <int E>
    static FASTDROP_INLINE void set(u32* words, const Value (&values)[E]) {
#pragma unroll
        for (int e = 0; e < E; ++e) put<1>(words, e, values[e]);
    }
};

// float16: computed with in float32, rounded once to nearest, ties to even. A NaN stays a NaN.
struct Float16 : Bytes<2, float> {
    static FASTDROP_INLINE float get(const u32* words, int e) { return widened(taken<2>(words, e)); }

    static FASTDROP_INLINE float widened(u16 bits) {
#ifdef __CUDA_ARCH__
        float value;
        asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
        return value;
#else
        const u32 sign = u32(bits & 0x8000u) << 16, rest = bits & 0x7FFFu;
        if (rest >= 0x7C00u) return cast<float>(sign | 0x7F800000u | rest << 13);
        // The exponent's bias is 112 less; a product with a power of two does that for subnormals
        // too, exactly.
        const float scaled = cast<float>(rest << 13) * cast<float>((127u + 112u) << 23);
        return cast<float>(sign | cast<u32>(scaled));
#endif
    }

    static FASTDROP_INLINE u16 rounded(float value) {
#ifdef __CUDA_ARCH__
        u16 bits;
        asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
        return bits;
#else
        const u32 all = cast<u32>(value), sign = all >> 16 & 0x8000u, rest = all & 0x7FFFFFFFu;
        if (rest > 0x7F800000u) return u16(sign | 0x7E00u);
        if (rest >= 0x477FF000u) return u16(sign | 0x7C00u);  // rounds above the largest, 65504
        u32 bits;
        if (rest < 0x38800000u) {
            // Below the smallest normal: the last place of 0.5 in float32 is that of subnormals,
            // so this sum rounds as is wanted.
            bits = cast<u32>(cast<float>(rest) + 0.5f) - 0x3F000000u;
        } else {
            bits = (rest - 0x38000000u + 0xFFFu + (rest >> 13 & 1u)) >> 13;
        }
        return u16(sign | bits);
#endif
    }

    template <int E>
    static FASTDROP_INLINE void set(u32* words, const float (&values)[E]) {
#pragma unroll
        for (int e = 0; e < E; e += 2) {
            const float next = e + 1 < E ? values[e + 1 < E ? e + 1 : e] : 0.0f;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
            asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(words[e / 2]) : "f"(next), "f"(values[e]));
#else
            words[e / 2] = rounded(values[e]) | u32(rounded(next)) << 16;
#endif
        }
    }
};

// bfloat16: the upper half of a float32, rounded as above.
struct Bfloat16 : Bytes<2, float> {
    static FASTDROP_INLINE float get(const u32* words, int e) {
        return cast<float>(e % 2 ? words[e / 2] & 0xFFFF0000u : words[e / 2] << 16);
    }

    static FASTDROP_INLINE u32 rounded(float value) {
        const u32 all = cast<u32>(value);
        const u32 bits = (all + 0x7FFFu + (all >> 16 & 1u)) >> 16;
        return (all & 0x7FFFFFFFu) > 0x7F800000u ? 0x7FC0u : bits;
    }

    template <int E>
    static FASTDROP_INLINE void set(u32* words, const float (&values)[E]) {
#pragma unroll
        for (int e = 0; e < E; e += 2) {
            const float next = e + 1 < E ? values[e + 1 < E ? e + 1 : e] : 0.0f;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
            asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(words[e / 2]) : "f"(next), "f"(values[e]));
#else
            words[e / 2] = rounded(values[e]) | rounded(next) << 16;
#endif
        }
    }
};

// Eight elements to a byte, the first in the lowest bit, as numpy.packbits(bitorder="little").
struct Packed {
    using Value = bool;
    static constexpr int SIZE = 1;    // bytes of the least that can be written
    static constexpr int GROUP = 32;  // a word: its four Philox calls hide the narrow access
    static constexpr int TOGETHER = 8;
    static FASTDROP_INLINE i64 bytes(i64 elements) { return elements / 8; }
    static FASTDROP_INLINE int elements_behind(u64 address) { return int(address % 4) * 8; }

    template <int E>
    static FASTDROP_INLINE void set(u32* words, const bool (&values)[E]) {
#pragma unroll
        for (int e = 0; e < E; ++e) words[e / 32] |= u32(values[e]) << (e % 32);
    }
};

// Memory. An address and what is known of it: `whole` says that elements are aligned to their size,
// `width` how many bytes of a group can be loaded at once.
//
// In PTX, because a pointer made of a number might point anywhere, and what takes that into account
// takes longer. Volatile, so that a thread reads before it writes where x is y.
#ifdef __CUDA_ARCH__
#define FASTDROP_ACCESS(TYPE, PTX, REGISTER)                                                \
    FASTDROP_INLINE void access(u64 address, TYPE& bits) {                                  \
        asm volatile("ld.global." PTX " %0, [%1];" : "=" REGISTER(bits) : "l"(address));    \
    }                                                                                       \
    FASTDROP_INLINE void replace(u64 address, TYPE bits) {                                  \
        asm volatile("st.global." PTX " [%0], %1;" : : "l"(address), REGISTER(bits));       \
    }
FASTDROP_ACCESS(u16, "u16", "h")
FASTDROP_ACCESS(u32, "u32", "r")
FASTDROP_ACCESS(u64, "u64", "l")
#undef FASTDROP_ACCESS
FASTDROP_INLINE void access(u64 address, u8& bits) {
    u16 wide;
    asm volatile("ld.global.u8 %0, [%1];" : "=h"(wide) : "l"(address));
    bits = u8(wide);
}
FASTDROP_INLINE void replace(u64 address, u8 bits) {
    asm volatile("st.global.u8 [%0], %1;" : : "l"(address), "h"(u16(bits)));
}
FASTDROP_INLINE void access(u64 address, Quad& bits) {
    u32* w = bits.word;
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(w[0]), "=r"(w[1]), "=r"(w[2]), "=r"(w[3]) : "l"(address));
}
FASTDROP_INLINE void replace(u64 address, Quad bits) {
    const u32* w = bits.word;
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};"
                 : : "l"(address), "r"(w[0]), "r"(w[1]), "r"(w[2]), "r"(w[3]));
}
#else
template <class Bits>
FASTDROP_INLINE void access(u64 address, Bits& bits) {
    bits = *reinterpret_cast<const Bits*>(address);
}
template <class Bits>
FASTDROP_INLINE void replace(u64 address, Bits bits) {
    *reinterpret_cast<Bits*>(address) = bits;
}
#endif

template <class Bits>
FASTDROP_INLINE Bits accessed(u64 address) {
    Bits bits;
    access(address, bits);
    return bits;
}

template <int SIZE>
FASTDROP_INLINE typename BitsOf<SIZE>::type load(u64 address, bool whole) {
    using Bits = typename BitsOf<SIZE>::type;
    if (whole || SIZE == 1) return accessed<Bits>(address);
    u32 words[(SIZE + 3) / 4] = {};
#pragma unroll
    for (int b = 0; b < SIZE; ++b) put<1>(words, b, accessed<u8>(address + u64(b)));
    return taken<SIZE>(words, 0);
}

template <int SIZE>
FASTDROP_INLINE void store(u64 address, typename BitsOf<SIZE>::type bits, bool whole) {
    if (whole || SIZE == 1) {
        replace(address, bits);
        return;
    }
    u32 words[(SIZE + 3) / 4] = {};
    put<SIZE>(words, 0, bits);
#pragma unroll
    for (int b = 0; b < SIZE; ++b) replace(address + u64(b), taken<1>(words, b));
}

template <int WIDTH, int WORDS>
FASTDROP_INLINE void load_pieces(u64 address, u32 (&words)[WORDS]) {
#pragma unroll
    for (int i = 0; i < WORDS * 4 / WIDTH; ++i) put<WIDTH>(words, i, load<WIDTH>(address + u64(i * WIDTH), true));
}

// K groups `apart` bytes apart. The width is the same for all threads of a launch.
template <int K, int WORDS>
FASTDROP_INLINE void load_groups(u64 address, i64 apart, u32 width, u32 (&groups)[K][WORDS]) {
#pragma unroll
    for (int k = 0; k < K; ++k) {
        if (width == 16) load_pieces<16>(address + u64(k * apart), groups[k]);
    }
    if (width == 16) return;
#pragma unroll
    for (int k = 0; k < K; ++k) {
        const u64 at = address + u64(k * apart);
#pragma unroll
        for (int w = 0; w < WORDS; ++w) groups[k][w] = 0;
        if (width == 8) load_pieces<8>(at, groups[k]);
        else if (width == 4) load_pieces<4>(at, groups[k]);
        else if (width == 2) load_pieces<2>(at, groups[k]);
        else load_pieces<1>(at, groups[k]);
    }
}

template <int WORDS>
FASTDROP_INLINE void load_group(u64 address, u32 width, u32 (&words)[WORDS]) {
    load_groups(address, 0, width, reinterpret_cast<u32 (&)[1][WORDS]>(words));
}

template <int WORDS>
FASTDROP_INLINE void store_group(u64 address, const u32 (&words)[WORDS]) {
    if constexpr (WORDS == 4) {
        replace(address, Quad{{words[0], words[1], words[2], words[3]}});
    } else {
        static_assert(WORDS == 1, "groups are of 16 bytes, or a word of bits");
        replace(address, words[0]);
    }
}

}  // namespace fastdrop
