// Storage types: the format of elements in memory, and their compute type.
//
// A group of elements is held in 32-bit words, as it lies in memory. A storage type defines how
// many elements make a group of 16 bytes (the widest access), and converts between words and
// values. Memory is accessed by the four functions at the end.

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

// Reinterpret bits as another type of the same size; compiles to nothing.
template <class To, class From>
FASTDROP_INLINE To bit_cast(From from) {
    static_assert(sizeof(To) == sizeof(From), "sizes differ");
    To to;
    memcpy(&to, &from, sizeof(to));
    return to;
}

// Arithmetic that rounds once, keeps subnormals, and is never fused. CuPy always compiles with
// -ftz=true, with which C++ operators flush float32 subnormals to zero.
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
FASTDROP_ROUNDED(multiply, "mul", *)
FASTDROP_ROUNDED(add, "add", +)
FASTDROP_ROUNDED(subtract, "sub", -)
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

// A float32 in the compute type.
template <class Value>
FASTDROP_INLINE Value to_value(float x) {
#ifdef __CUDA_ARCH__
    if constexpr (sizeof(Value) == sizeof(double)) {
        double wide;
        asm("cvt.f64.f32 %0, %1;" : "=d"(wide) : "f"(x));
        return wide;
    }
#endif
    return x;
}

// Get and put the bits of element e of a group; e is a compile-time constant after unrolling. Words
// must be zero before the first put.
template <int SIZE>
FASTDROP_INLINE typename BitsOf<SIZE>::type get_bits(const u32* words, int e) {
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
FASTDROP_INLINE void put_bits(u32* words, int e, typename BitsOf<SIZE>::type bits) {
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

// Base of storage types of whole bytes.
template <int SIZE_, class Value_>
struct WholeBytes {
    using Value = Value_;
    static constexpr int SIZE = SIZE_;
    static constexpr int GROUP = 16 / SIZE;  // elements of 16 bytes
    static constexpr int PER_UNIT = 1;       // elements of the least that can be stored
    static FASTDROP_INLINE i64 bytes(i64 elements) { return elements * SIZE; }
    // Elements between the aligned address below and an address.
    static FASTDROP_INLINE int misalignment(u64 address) { return int(address % 16) / SIZE; }

    static FASTDROP_INLINE Value get(const u32* words, int e) {
        return bit_cast<Value>(get_bits<SIZE>(words, e));
    }
    template <int E>
    static FASTDROP_INLINE void set(u32* words, const Value (&values)[E]) {
#pragma unroll
        for (int e = 0; e < E; ++e)
            put_bits<SIZE>(words, e, bit_cast<typename BitsOf<SIZE>::type>(values[e]));
    }
};

struct Float32 : WholeBytes<4, float> {};
struct Float64 : WholeBytes<8, double> {};
template <int SIZE> struct Raw : WholeBytes<SIZE, typename BitsOf<SIZE>::type> {};

struct Bool : WholeBytes<1, bool> {
    static FASTDROP_INLINE Value get(const u32* words, int e) { return get_bits<1>(words, e) != 0; }
    template <int E>
    static FASTDROP_INLINE void set(u32* words, const Value (&values)[E]) {
#pragma unroll
        for (int e = 0; e < E; ++e) put_bits<1>(words, e, values[e]);
    }
    // Set bytes to 16 bits of a word, from bit 0 or 16 on.
    static FASTDROP_INLINE void set_bits(u32 (&words)[4], u32 bits, int first) {
        // Bytes of `pairs`: elements 0, 2, 4, ... and 1, 3, 5, ..., from the lowest bit on.
        const u32 pairs = permute_bytes(bits, bits >> 1, first == 0 ? 0x5140 : 0x7362);
        const u32 next = pairs >> 2;
        // Bytes of each: elements 0 and 4, 1 and 5, 2 and 6, 3 and 7, at bits 0 and 4.
        const u32 low = permute_bytes(pairs, next, 0x5410);
        const u32 high = permute_bytes(pairs, next, 0x7632);
        words[0] = low & 0x01010101u;
        words[1] = low >> 4 & 0x01010101u;
        words[2] = high & 0x01010101u;
        words[3] = high >> 4 & 0x01010101u;
    }
};

// float16: computed in float32, rounded once to nearest, ties to even. A NaN stays a NaN.
struct Float16 : WholeBytes<2, float> {
    static FASTDROP_INLINE float get(const u32* words, int e) {
        return to_float(get_bits<2>(words, e));
    }

    static FASTDROP_INLINE float to_float(u16 bits) {
#ifdef __CUDA_ARCH__
        float value;
        asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
        return value;
#else
        const u32 sign = u32(bits & 0x8000u) << 16, rest = bits & 0x7FFFu;
        if (rest >= 0x7C00u) return bit_cast<float>(sign | 0x7F800000u | rest << 13);
        // The exponent bias differs by 112. Multiplying by a power of two is exact, also for
        // subnormals.
        const float scaled = bit_cast<float>(rest << 13) * bit_cast<float>((127u + 112u) << 23);
        return bit_cast<float>(sign | bit_cast<u32>(scaled));
#endif
    }

    static FASTDROP_INLINE u16 from_float(float value) {
#ifdef __CUDA_ARCH__
        u16 bits;
        asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
        return bits;
#else
        const u32 all = bit_cast<u32>(value), sign = all >> 16 & 0x8000u, rest = all & 0x7FFFFFFFu;
        if (rest > 0x7F800000u) return u16(sign | 0x7E00u);
        if (rest >= 0x477FF000u) return u16(sign | 0x7C00u);  // rounds above 65504, the maximum
        u32 bits;
        if (rest < 0x38800000u) {
            // Below the smallest normal: the ulp of 0.5 in float32 is that of float16 subnormals,
            // so this sum rounds correctly.
            bits = bit_cast<u32>(bit_cast<float>(rest) + 0.5f) - 0x3F000000u;
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
            words[e / 2] = from_float(values[e]) | u32(from_float(next)) << 16;
#endif
        }
    }
};

// bfloat16: the high half of a float32, rounded in the same way.
struct Bfloat16 : WholeBytes<2, float> {
    static FASTDROP_INLINE float get(const u32* words, int e) {
        return bit_cast<float>(e % 2 ? words[e / 2] & 0xFFFF0000u : words[e / 2] << 16);
    }

    static FASTDROP_INLINE u32 from_float(float value) {
        const u32 all = bit_cast<u32>(value);
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
            words[e / 2] = from_float(values[e]) | from_float(next) << 16;
#endif
        }
    }
};

// Eight elements per byte, the first in the lowest bit, as numpy.packbits(bitorder="little").
struct Packed {
    using Value = bool;
    static constexpr int SIZE = 1;    // bytes of the least that can be stored
    static constexpr int GROUP = 32;  // a word; its four Philox calls hide the narrow store
    static constexpr int PER_UNIT = 8;
    static FASTDROP_INLINE i64 bytes(i64 elements) { return elements / 8; }
    static FASTDROP_INLINE int misalignment(u64 address) { return int(address % 4) * 8; }

    template <int E>
    static FASTDROP_INLINE void set(u32* words, const bool (&values)[E]) {
#pragma unroll
        for (int e = 0; e < E; ++e) words[e / 32] |= u32(values[e]) << (e % 32);
    }
    static FASTDROP_INLINE void set_bits(u32 (&words)[1], u32 bits, int) { words[0] = bits; }
};

// Memory access. `aligned` means that elements are aligned to their size, `width` is the number of
// bytes of a group that can be loaded at once.
//
// In PTX, because for a pointer cast from an integer the compiler emits generic accesses, which are
// slower than global ones. Volatile, so that a thread reads before it writes if x is y.
#ifdef __CUDA_ARCH__
#define FASTDROP_ACCESS(TYPE, PTX, REGISTER)                                                \
    FASTDROP_INLINE void load_bits(u64 address, TYPE& bits) {                                  \
        asm volatile("ld.global." PTX " %0, [%1];" : "=" REGISTER(bits) : "l"(address));    \
    }                                                                                       \
    FASTDROP_INLINE void store_bits(u64 address, TYPE bits) {                                  \
        asm volatile("st.global." PTX " [%0], %1;" : : "l"(address), REGISTER(bits));       \
    }
FASTDROP_ACCESS(u16, "u16", "h")
FASTDROP_ACCESS(u32, "u32", "r")
FASTDROP_ACCESS(u64, "u64", "l")
#undef FASTDROP_ACCESS
FASTDROP_INLINE void load_bits(u64 address, u8& bits) {
    u16 wide;
    asm volatile("ld.global.u8 %0, [%1];" : "=h"(wide) : "l"(address));
    bits = u8(wide);
}
FASTDROP_INLINE void store_bits(u64 address, u8 bits) {
    asm volatile("st.global.u8 [%0], %1;" : : "l"(address), "h"(u16(bits)));
}
FASTDROP_INLINE void load_bits(u64 address, Quad& bits) {
    u32* w = bits.word;
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(w[0]), "=r"(w[1]), "=r"(w[2]), "=r"(w[3]) : "l"(address));
}
FASTDROP_INLINE void store_bits(u64 address, Quad bits) {
    const u32* w = bits.word;
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};"
                 : : "l"(address), "r"(w[0]), "r"(w[1]), "r"(w[2]), "r"(w[3]));
}
#else
template <class Bits>
FASTDROP_INLINE void load_bits(u64 address, Bits& bits) {
    bits = *reinterpret_cast<const Bits*>(address);
}
template <class Bits>
FASTDROP_INLINE void store_bits(u64 address, Bits bits) {
    *reinterpret_cast<Bits*>(address) = bits;
}
#endif

template <class Bits>
FASTDROP_INLINE Bits loaded(u64 address) {
    Bits bits;
    load_bits(address, bits);
    return bits;
}

template <int SIZE>
FASTDROP_INLINE typename BitsOf<SIZE>::type load(u64 address, bool aligned) {
    using Bits = typename BitsOf<SIZE>::type;
    if (aligned || SIZE == 1) return loaded<Bits>(address);
    u32 words[(SIZE + 3) / 4] = {};
#pragma unroll
    for (int b = 0; b < SIZE; ++b) put_bits<1>(words, b, loaded<u8>(address + u64(b)));
    return get_bits<SIZE>(words, 0);
}

template <int SIZE>
FASTDROP_INLINE void store(u64 address, typename BitsOf<SIZE>::type bits, bool aligned) {
    if (aligned || SIZE == 1) {
        store_bits(address, bits);
        return;
    }
    u32 words[(SIZE + 3) / 4] = {};
    put_bits<SIZE>(words, 0, bits);
#pragma unroll
    for (int b = 0; b < SIZE; ++b) store_bits(address + u64(b), get_bits<1>(words, b));
}

template <int WIDTH, int WORDS>
FASTDROP_INLINE void load_pieces(u64 address, u32 (&words)[WORDS]) {
#pragma unroll
    for (int i = 0; i < WORDS * 4 / WIDTH; ++i)
        put_bits<WIDTH>(words, i, load<WIDTH>(address + u64(i * WIDTH), true));
}

// Load K groups at a distance in bytes. The width is the same for all threads of a launch.
template <int K, int WORDS>
FASTDROP_INLINE void load_groups(u64 address, i64 distance, u32 width, u32 (&groups)[K][WORDS]) {
    if (width == 16) {
#pragma unroll
        for (int k = 0; k < K; ++k) load_pieces<16>(address + u64(k * distance), groups[k]);
        return;
    }
#pragma unroll
    for (int k = 0; k < K; ++k) {
        const u64 at = address + u64(k * distance);
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
        store_bits(address, Quad{{words[0], words[1], words[2], words[3]}});
    } else {
        static_assert(WORDS == 1, "groups are 16 bytes, or one word of bits");
        store_bits(address, words[0]);
    }
}

}  // namespace fastdrop
