// The mask contract, version 1, in CUDA C++: the bits, and nothing else. contract.py is where it is
// stated and explained; known answers and exact comparison tie this text to it.
//
// No CUDA header is included, so NVRTC compiles this as it is, and a C++ compiler does too where
// something stands in for the built-in names (tests/cuda_host/shim.h).

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

// Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11.
FASTDROP_INLINE Words philox4x32_10(u32 c0, u32 c1, u32 c2, u32 c3, u32 k0, u32 k1) {
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        // One instruction gives both halves of a product, and one more xors three words.
        const u64 p0 = u64(0xD2511F53u) * c0;
        const u64 p2 = u64(0xCD9E8D57u) * c2;
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

// The halves of E elements from index `first` on, two to a word, low half first.
template <int E>
FASTDROP_INLINE void halves(const Key& key, u64 first, u32 level, u32 (&words)[(E + 1) / 2]) {
    constexpr int BLOCKS = (E + BLOCK - 1) / BLOCK;
    constexpr int DRAWN = 4 * (BLOCKS + 1);
    const u32 phase = u32(first) % BLOCK;
    u32 drawn[DRAWN + 3] = {};
#pragma unroll
    for (int b = 0; b < BLOCKS; ++b) {
        // The sum and then the shift: elements in front of a line may have indices below 0, which
        // are drawn and not used.
        const Words bits = block_bits(key, (first + u64(b * BLOCK)) / BLOCK, level);
#pragma unroll
        for (int w = 0; w < 4; ++w) drawn[4 * b + w] = bits.word[w];
    }
    if (phase + E > BLOCKS * BLOCK) {  // they reach into one block more
        const Words bits = block_bits(key, (first + u64(BLOCKS * BLOCK)) / BLOCK, level);
#pragma unroll
        for (int w = 0; w < 4; ++w) drawn[4 * BLOCKS + w] = bits.word[w];
    }
    // Shift down by the phase, in steps whose places are known when this is compiled: registers
    // cannot be indexed.
#pragma unroll
    for (int w = 0; w < DRAWN; ++w) drawn[w] = phase & 4 ? drawn[w + 2] : drawn[w];
#pragma unroll
    for (int w = 0; w < DRAWN; ++w) drawn[w] = phase & 2 ? drawn[w + 1] : drawn[w];
#pragma unroll
    for (int w = 0; w < (E + 1) / 2; ++w)
        words[w] = phase & 1 ? (drawn[w] >> 16) | (drawn[w + 1] << 16) : drawn[w];
}

// Whether any half of some words is the upper half of the threshold.
template <int N>
FASTDROP_INLINE bool tied(const u32 (&words)[N], u32 threshold) {
    const u32 pattern = (threshold >> 16) * 0x00010001u;
    u32 zero = 0;  // the sign bit of each half that is zero in a difference, and at times of others
#pragma unroll
    for (int w = 0; w < N; ++w) {
        const u32 difference = words[w] ^ pattern;
        zero |= (difference - 0x00010001u) & ~difference;
    }
    return (zero & 0x80008000u) != 0;
}

// The noise of E elements: numbers whose comparison with the threshold is that of the elements'
// 32-bit uniforms. Their lower halves are rubbish unless there is a tie, or EXACT asks for the
// uniforms themselves.
template <int E, bool EXACT>
FASTDROP_INLINE void draw(const Key& key, u64 first, u32 threshold, u32 (&noise)[E]) {
    u32 words[(E + 1) / 2];
    halves<E>(key, first, 0, words);
#pragma unroll
    for (int e = 0; e < E; ++e) noise[e] = e % 2 ? words[e / 2] : words[e / 2] << 16;
    if (EXACT || ((threshold & 0xFFFFu) != 0 && tied(words, threshold))) {
        u32 lower[(E + 1) / 2];
        halves<E>(key, first, 1, lower);
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
    draw<1, true>(key, index, 0, noise);
    return noise[0];
}

// Whether an element is kept: its uniform is not below the threshold, which may be 2**32.
FASTDROP_INLINE bool keep(const Key& key, u64 index, u64 threshold) {
    return uniform32(key, index) >= threshold;
}

}  // namespace fastdrop
