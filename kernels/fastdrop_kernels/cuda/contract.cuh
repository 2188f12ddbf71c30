// The mask contract, version 1, in CUDA C++: the bits, and nothing else. contract.py is where it is
// stated and explained; known answers and exact comparison tie this text to it.
//
// No CUDA header is included, so NVRTC compiles this as it is, and a C++ compiler does too where
// something stands in for the built-in names (tests/support/cuda_host/shim.h).

#define FASTDROP_INLINE __device__ __forceinline__

namespace fastdrop {

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using i64 = long long;
using u64 = unsigned long long;

constexpr int BLOCK = 8;  // elements that one Philox call serves

struct Key {
    u64 seed;
    u64 stream;
};

// Four output words are the 8 halves of a block in element order, low half first.
struct Words {
    u32 word[4];
};

// A product of 32-bit numbers in one instruction. From the expression alone the compiler multiplies
// 64-bit numbers, and adds a zero to each upper half: 20 instructions more in a block of bits.
FASTDROP_INLINE u64 product(u32 a, u32 b) {
#ifdef __CUDA_ARCH__
    u64 all;
    asm("mul.wide.u32 %0, %1, %2;" : "=l"(all) : "r"(a), "r"(b));
    return all;
#else
    return u64(a) * b;
#endif
}

// Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11.
FASTDROP_INLINE Words philox4x32_10(u32 c0, u32 c1, u32 c2, u32 c3, u32 k0, u32 k1) {
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const u64 p0 = product(c0, 0xD2511F53u);
        const u64 p2 = product(c2, 0xCD9E8D57u);
        c0 = u32(p2 >> 32) ^ c1 ^ k0;
        c1 = u32(p2);
        c2 = u32(p0 >> 32) ^ c3 ^ k1;
        c3 = u32(p0);
        k0 += 0x9E3779B9u;  // golden ratio
        k1 += 0xBB67AE85u;  // sqrt(3) - 1
    }
    return {{c0, c1, c2, c3}};
}

// The halves of elements 8 * block to 8 * block + 7 at a level, 0 or 1.
FASTDROP_INLINE Words block_bits(const Key& key, u64 block, u32 level) {
    return philox4x32_10(u32(block), u32(block >> 32) + (level << 31), u32(key.stream),
                         u32(key.stream >> 32), u32(key.seed), u32(key.seed >> 32));
}

// An element's place in the mask. The shift is a signed one: elements in front of a line may have
// indices below 0, and are drawn (whatever comes) and not used.
struct Site {
    u64 block;
    u32 phase;
};

FASTDROP_INLINE Site site_of(u64 index) {
    return {u64(i64(index) >> 3), u32(index) % BLOCK};
}

// Words shifted down by `phase` halves, 0 to 7, in steps whose distances are known when this is
// compiled: registers cannot be indexed. Steps below LEAST are left out.
template <int LEAST, int N, int M>
FASTDROP_INLINE void shifted(u32 (&from)[N], u32 phase, u32 (&to)[M]) {
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

// The halves of E elements from a place on, two to a word, low half first.
template <int E>
FASTDROP_INLINE void halves(const Key& key, const Site& site, u32 level, u32 (&words)[(E + 1) / 2]) {
    constexpr int BLOCKS = (E + BLOCK - 1) / BLOCK;
    constexpr int ALIGNED = E < BLOCK ? E : BLOCK;
    u32 drawn[4 * BLOCKS + 4] = {};
#pragma unroll
    for (int b = 0; b < BLOCKS; ++b) {
        const Words bits = block_bits(key, site.block + b, level);
#pragma unroll
        for (int w = 0; w < 4; ++w) drawn[4 * b + w] = bits.word[w];
    }
    // Mostly E elements begin at a multiple of E, and all threads are alike.
    if (site.phase % ALIGNED == 0) {
        shifted<ALIGNED>(drawn, site.phase, words);
        return;
    }
    if (site.phase + E > BLOCKS * BLOCK) {  // they reach into one block more
        const Words bits = block_bits(key, site.block + BLOCKS, level);
#pragma unroll
        for (int w = 0; w < 4; ++w) drawn[4 * BLOCKS + w] = bits.word[w];
    }
    shifted<1>(drawn, site.phase, words);
}

// What noise is drawn for: whether, given the upper halves of the uniforms, the lower ones matter.
//
// The uniforms themselves.
struct Itself {
    template <int N>
    FASTDROP_INLINE bool is_open(const u32 (&)[N]) const {
        return true;
    }
};

// A comparison of all elements with one threshold: it is open where any half is its upper half.
struct Against {
    u32 threshold;

    template <int N>
    FASTDROP_INLINE bool is_open(const u32 (&words)[N]) const {
        if ((threshold & 0xFFFFu) == 0) return false;
        const u32 pattern = (threshold >> 16) * 0x00010001u;
        u32 zero = 0;  // the sign bit of each half that is zero in a difference, and at times of others
#pragma unroll
        for (int w = 0; w < N; ++w) {
            const u32 difference = words[w] ^ pattern;
            zero |= (difference - 0x00010001u) & ~difference;
        }
        return (zero & 0x80008000u) != 0;
    }
};

// A comparison of each element with a threshold of its own.
template <int E>
struct AgainstEach {
    u32 threshold[E];

    template <int N>
    FASTDROP_INLINE bool is_open(const u32 (&words)[N]) const {
        bool open = false;
#pragma unroll
        for (int e = 0; e < E; ++e) {
            const u32 half = e % 2 ? words[e / 2] >> 16 : words[e / 2] & 0xFFFFu;
            open |= half == threshold[e] >> 16;
        }
        return open;
    }
};

// The noise of E elements: numbers whose comparison with a threshold is that of the elements' 32-bit
// uniforms. Their lower halves are rubbish unless that would be open.
template <int E, class Purpose>
FASTDROP_INLINE void draw(const Key& key, const Site& site, const Purpose& purpose,
                          u32 (&noise)[E]) {
    u32 words[(E + 1) / 2];
    halves<E>(key, site, 0, words);
#pragma unroll
    for (int e = 0; e < E; ++e) noise[e] = e % 2 ? words[e / 2] : words[e / 2] << 16;
    if (purpose.is_open(words)) {
        u32 lower[(E + 1) / 2];
        halves<E>(key, site, 1, lower);
#pragma unroll
        for (int e = 0; e < E; ++e) {
            const u32 half = e % 2 ? lower[e / 2] >> 16 : lower[e / 2] & 0xFFFFu;
            noise[e] = (noise[e] & 0xFFFF0000u) | half;
        }
    }
}

// The 32-bit uniform of one element, for kernels of other people.
FASTDROP_INLINE u32 uniform32(const Key& key, u64 index) {
    u32 noise[1];
    draw(key, site_of(index), Itself{}, noise);
    return noise[0];
}

// Whether an element is kept: its uniform is not below the threshold, which may be 2**32.
FASTDROP_INLINE bool keep(const Key& key, u64 index, u64 threshold) {
    return uniform32(key, index) >= threshold;
}

}  // namespace fastdrop
