// The mask contract, version 1, in CUDA C++. contract.py defines and explains it; known answers and
// exact comparison in tests keep the two identical.
//
// No CUDA header is included. NVRTC compiles this file as it is, and a C++ compiler does with
// replacements of the built-in names (tests/support/cuda_host/shim.h).

#define FASTDROP_INLINE __device__ __forceinline__

namespace fastdrop {

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using i64 = long long;
using u64 = unsigned long long;

constexpr int BLOCK = 8;  // elements of one Philox call
constexpr u32 DRAWS = 4;  // 32-bit uniforms of an element

struct Key {
    u64 seed;
    u64 stream;
};

// Philox output: four words, the 8 halves of a block in element order, low half first.
struct Words {
    u32 word[4];
};

// The 64-bit product of 32-bit numbers in one instruction. For the C++ expression the compiler
// multiplies 64-bit numbers, with an addition of zero to each high half: 20 more instructions per
// block of bits.
FASTDROP_INLINE u64 product(u32 a, u32 b) {
#ifdef __CUDA_ARCH__
    u64 all;
    asm("mul.wide.u32 %0, %1, %2;" : "=l"(all) : "r"(a), "r"(b));
    return all;
#else
    return u64(a) * b;
#endif
}

// The minimum of a + b, modulo 2**16, and `limit` for each half of a word, in one instruction from
// sm_90 on.
FASTDROP_INLINE u32 min_of_sums_of_halves(u32 a, u32 b, u32 limit) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    u32 result;
    asm("{.reg .b32 sum;\n\tadd.u16x2 sum, %1, %2;\n\tmin.u16x2 %0, sum, %3;}"
        : "=r"(result) : "r"(a), "r"(b), "r"(limit));
    return result;
#else
    const u32 low = (a + b) & 0xFFFFu, high = ((a >> 16) + (b >> 16)) & 0xFFFFu;
    const u32 low_limit = limit & 0xFFFFu, high_limit = limit >> 16;
    return (low < low_limit ? low : low_limit) | (high < high_limit ? high : high_limit) << 16;
#endif
}

// Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11.
//
// In the first two rounds, one product each depends on counter words 1 to 3 and on the key alone.
// The constructor does this part. Blocks that differ in counter word 0 alone share it, and take 18
// products of 20: blocks of one key, one level and the same high word of their numbers.
class Philox {
    static constexpr u32 MULTIPLIER_0 = 0xD2511F53u, MULTIPLIER_2 = 0xCD9E8D57u;
    static constexpr u32 STEP_0 = 0x9E3779B9u;  // golden ratio
    static constexpr u32 STEP_1 = 0xBB67AE85u;  // sqrt(3) - 1

    u32 k0, k1;                           // the key words of round 3
    u32 c2_of_round_2;                    // without the product of counter word 0, as those below
    u32 c0_of_round_3, c2_of_round_3, c3_of_round_3;

  public:
    FASTDROP_INLINE Philox(u32 c1, u32 c2, u32 c3, u32 key0, u32 key1) {
        const u64 p2 = product(c2, MULTIPLIER_2);                                // of round 1
        const u64 p0 = product(u32(p2 >> 32) ^ c1 ^ key0, MULTIPLIER_0);         // of round 2
        c2_of_round_2 = c3 ^ key1;
        c0_of_round_3 = u32(p2) ^ (key0 + STEP_0);
        c2_of_round_3 = u32(p0 >> 32) ^ (key1 + STEP_1);
        c3_of_round_3 = u32(p0);
        k0 = key0 + 2 * STEP_0;
        k1 = key1 + 2 * STEP_1;
    }

    FASTDROP_INLINE Words operator()(u32 counter0) const {
        const u64 first = product(counter0, MULTIPLIER_0);
        const u64 second = product(u32(first >> 32) ^ c2_of_round_2, MULTIPLIER_2);
        u32 c0 = u32(second >> 32) ^ c0_of_round_3, c1 = u32(second);
        u32 c2 = u32(first) ^ c2_of_round_3, c3 = c3_of_round_3;
        u32 key0 = k0, key1 = k1;
#pragma unroll
        for (int round = 3; round <= 10; ++round) {
            const u64 p0 = product(c0, MULTIPLIER_0);
            const u64 p2 = product(c2, MULTIPLIER_2);
            c0 = u32(p2 >> 32) ^ c1 ^ key0;
            c1 = u32(p2);
            c2 = u32(p0 >> 32) ^ c3 ^ key1;
            c3 = u32(p0);
            key0 += STEP_0;
            key1 += STEP_1;
        }
        return {{c0, c1, c2, c3}};
    }
};

// The generator of the blocks whose numbers have a high word, which is below 2**28; levels 0 to 7.
FASTDROP_INLINE Philox philox_of(const Key& key, u32 high, u32 level) {
    return Philox(high + (level << 31 | level >> 1 << 28), u32(key.stream), u32(key.stream >> 32), u32(key.seed),
                  u32(key.seed >> 32));
}

// The halves of elements 8 * block to 8 * block + 7: the high halves of their uniforms at level 0,
// the low halves at level 1.
FASTDROP_INLINE Words block_bits(const Key& key, u64 block, u32 level) {
    return philox_of(key, u32(block >> 32), level)(u32(block));
}

// A mask index as a block and an element in the block. The shift is arithmetic: elements before the
// beginning of a row may have negative indices; their bits are drawn and not used.
struct MaskPosition {
    u64 block;
    u32 phase;
};

FASTDROP_INLINE MaskPosition mask_position(u64 index) {
    return {u64(i64(index) >> 3), u32(index) % BLOCK};
}

// Shift words down by `phase` halves, 0 to 7, in steps of compile-time distances, because registers
// cannot be indexed. `phase` must be a multiple of LEAST; smaller steps are omitted.
template <int LEAST, int N, int M>
FASTDROP_INLINE void shift_halves(u32 (&from)[N], u32 phase, u32 (&to)[M]) {
#pragma unroll
    for (int step = 2; step >= 1; --step) {
        if (2 * step < LEAST) continue;
#pragma unroll
        for (int w = 0; w + step < N; ++w) from[w] = phase & (2 * step) ? from[w + step] : from[w];
    }
#pragma unroll
    for (int w = 0; w < M; ++w) {
        const u32 next = w + 1 < N ? from[w + 1 < N ? w + 1 : w] : 0;
        to[w] = LEAST == 1 && phase & 1 ? (from[w] >> 16) | (next << 16) : from[w];
    }
}

// The halves of E elements from a position on, two per word, low half first.
template <int E>
FASTDROP_INLINE void halves(const Key& key, const MaskPosition& position, u32 level,
                            u32 (&words)[(E + 1) / 2]) {
    constexpr int BLOCKS = (E + BLOCK - 1) / BLOCK;
    constexpr int ALIGNED = E < BLOCK ? E : BLOCK;
    u32 drawn[4 * BLOCKS + 4] = {};
#pragma unroll
    for (int b = 0; b < BLOCKS; ++b) {
        const Words bits = block_bits(key, position.block + b, level);
#pragma unroll
        for (int w = 0; w < 4; ++w) drawn[4 * b + w] = bits.word[w];
    }
    // The common case: the position is a multiple of E. It is uniform across threads.
    if (position.phase % ALIGNED == 0) {
        shift_halves<ALIGNED>(drawn, position.phase, words);
        return;
    }
    if (position.phase + E > BLOCKS * BLOCK) {  // they extend into one more block
        const Words bits = block_bits(key, position.block + BLOCKS, level);
#pragma unroll
        for (int w = 0; w < 4; ++w) drawn[4 * BLOCKS + w] = bits.word[w];
    }
    shift_halves<1>(drawn, position.phase, words);
}

// Purposes of drawing: `has_tie` returns whether the low halves of the uniforms are needed, given
// the high halves.
//
// All bits of the uniforms.
struct AllBits {
    template <int N>
    FASTDROP_INLINE bool has_tie(const u32 (&)[N]) const {
        return true;
    }
};

// Comparison of all elements with one threshold: a tie if any half equals its high half.
struct Comparison {
    u32 threshold;

    template <int N>
    FASTDROP_INLINE bool has_tie(const u32 (&words)[N]) const {
        if ((threshold & 0xFFFFu) == 0) return false;
        // The sign bit of a half is set if the half of a difference is zero, and rarely otherwise.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
        const u32 minus = (0x10000u - (threshold >> 16)) % 0x10000u * 0x00010001u;
        u32 least = ~0u;
#pragma unroll
        for (int w = 0; w < N; ++w) least = min_of_sums_of_halves(words[w], minus, least);
        const u32 zero = (least - 0x00010001u) & ~least;
#else
        const u32 pattern = (threshold >> 16) * 0x00010001u;
        u32 zero = 0;
#pragma unroll
        for (int w = 0; w < N; ++w) {
            const u32 difference = words[w] ^ pattern;
            zero |= (difference - 0x00010001u) & ~difference;
        }
#endif
        return (zero & 0x80008000u) != 0;
    }
};

// Comparison of each element with its own threshold.
template <int E>
struct PerElementComparison {
    u32 threshold[E];

    template <int N>
    FASTDROP_INLINE bool has_tie(const u32 (&words)[N]) const {
        bool tie = false;
#pragma unroll
        for (int e = 0; e < E; ++e) {
            const u32 half = e % 2 ? words[e / 2] >> 16 : words[e / 2] & 0xFFFFu;
            tie |= half == threshold[e] >> 16;
        }
        return tie;
    }
};

// A word of the bytes of a (0 to 3) and b (4 to 7), by the digits of the selector, lowest first.
FASTDROP_INLINE u32 permute_bytes(u32 a, u32 b, u32 selector) {
#ifdef __CUDA_ARCH__
    return __byte_perm(a, b, selector);
#else
    const u64 both = u64(b) << 32 | a;
    u32 result = 0;
    for (int i = 0; i < 4; ++i) result |= u32(both >> (selector >> 4 * i & 7) * 8 & 0xFFu) << 8 * i;
    return result;
#endif
}

// The uniforms of E elements. The low halves are arbitrary unless the purpose needs them: a
// comparison with the threshold is exact in any case.
template <int E, class Purpose>
FASTDROP_INLINE void draw(const Key& key, const MaskPosition& position, const Purpose& purpose,
                          u32 (&uniform)[E]) {
    u32 words[(E + 1) / 2];
    halves<E>(key, position, 0, words);
#pragma unroll
    for (int e = 0; e < E; ++e) uniform[e] = e % 2 ? words[e / 2] : words[e / 2] << 16;
    if (purpose.has_tie(words)) {
        u32 lower[(E + 1) / 2];
        halves<E>(key, position, 1, lower);
#pragma unroll
        for (int e = 0; e < E; ++e) {
            // Halves of two words, in one instruction.
            uniform[e] = permute_bytes(lower[e / 2], words[e / 2], e % 2 ? 0x7632 : 0x5410);
        }
    }
}

// The 32-bit uniform of one element, for users' kernels.
FASTDROP_INLINE u32 uniform32(const Key& key, u64 index) {
    u32 uniform[1];
    draw(key, mask_position(index), AllBits{}, uniform);
    return uniform[0];
}

// A further 32-bit uniform of one element: draw 0 is uniform32, draws 1 to 3 are at levels 2 to 7.
FASTDROP_INLINE u32 draw32(const Key& key, u64 index, u32 draw) {
    const MaskPosition position = mask_position(index);
    u32 high[1], low[1];
    halves<1>(key, position, 2 * draw, high);
    halves<1>(key, position, 2 * draw + 1, low);
    return high[0] << 16 | (low[0] & 0xFFFFu);
}

// The key of a counter with some of the two upper bits of word 1: see fold_in and derive.
FASTDROP_INLINE Key derived_key(const Key& key, u64 n, u32 bits) {
    const Words words = Philox(u32(n >> 32) + bits, u32(key.stream), u32(key.stream >> 32),
                               u32(key.seed), u32(key.seed >> 32))(u32(n));
    return {u64(words.word[1]) << 32 | words.word[0], u64(words.word[3]) << 32 | words.word[2]};
}

// The n-th key derived from a key, n < 2**62.
FASTDROP_INLINE Key fold_in(const Key& key, u64 n) { return derived_key(key, n, 1u << 30); }

// The n-th key for further draws, which no fold_in returns.
FASTDROP_INLINE Key derive(const Key& key, u64 n) { return derived_key(key, n, 3u << 30); }

// A uniform integer in [0, n) of one element, 1 <= n <= 2**32: exact, by rejection. The uniforms
// are its draws from `draw` on, then draws 0 to 3 under derived keys.
FASTDROP_INLINE u64 uniform_below(const Key& key, u64 index, u32 draw, u64 n) {
    const u32 least = u32((0x100000000ull - n) % n);
    u64 product = draw32(key, index, draw) * n;
    Key current = key;
    for (u64 derived = 0; u32(product) < least; product = draw32(current, index, draw) * n) {
        if (++draw == DRAWS) {
            draw = 0;
            current = derive(key, ++derived);
        }
    }
    return product >> 32;
}

// Whether element i precedes j in the order of their draws from `draw` on, then of derived keys.
FASTDROP_INLINE bool precedes(const Key& key, u64 i, u64 j, u32 draw) {
    u32 a = draw32(key, i, draw), b = draw32(key, j, draw);
    Key current = key;
    for (u64 derived = 0; a == b;) {
        if (++draw == DRAWS) {
            draw = 0;
            current = derive(key, ++derived);
        }
        a = draw32(current, i, draw), b = draw32(current, j, draw);
    }
    return a < b;
}

// Whether an element is kept: its uniform is not below the threshold, which is at most 2**32.
FASTDROP_INLINE bool keep(const Key& key, u64 index, u64 threshold) {
    return uniform32(key, index) >= threshold;
}

}  // namespace fastdrop
