// Decisions by one threshold, for all groups of a warp at once: which elements are kept, as bits.
//
// The threads of a warp share out the Philox blocks of its elements. Each draws some, and compares
// draws two at a time, as they are in a word. Ties are rare, and resolved by `keep`. Shuffles bring
// the bits to the threads that have the elements. So no block is drawn twice, where a group is half
// a block (float32) or a quarter, or where groups cut blocks.
//
// Figures below are instructions issued per group of 16 bytes, counted in sm_90 code of NVRTC 13.5,
// November 2026. A block takes 38 for its bits and 11 for the codes of its elements.

namespace fastdrop {

constexpr int WARP = 32;  // threads

// The maximum of each half, in one instruction from sm_90 on.
FASTDROP_INLINE u32 max_of_halves(u32 a, u32 b) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    u32 result;
    asm("max.u16x2 %0, %1, %2;" : "=r"(result) : "r"(a), "r"(b));
    return result;
#else
    const u32 low_a = a & 0xFFFFu, low_b = b & 0xFFFFu, high_a = a >> 16, high_b = b >> 16;
    return (low_a > low_b ? low_a : low_b) | (high_a > high_b ? high_a : high_b) << 16;
#endif
}

// Whether bit `number` is set. In PTX, because the compiler makes masks of C++ bit tests before
// zero is selected, with three instructions per element and not two.
FASTDROP_INLINE bool is_set(u32 bits, int number) {
#ifdef __CUDA_ARCH__
    u32 result;
    asm("{.reg .pred set;\n\t.reg .b32 bit;\n\tand.b32 bit, %1, %2;\n\t"
        "setp.ne.b32 set, bit, 0;\n\tselp.b32 %0, 1, 0, set;}"
        : "=r"(result) : "r"(bits), "r"(1u << number));
    return result != 0;
#else
    return bits >> number & 1;
#endif
}

// Codes of elements, two bits each: 0 dropped, 2 kept, 1 not decided by the 16 bits drawn. A word
// has those of two blocks. Elements with even numbers are in its low half, in order, and the others
// in its high half: the positions to which shifts bring the halves of the words drawn.
class Coder {
    u32 least, shift;  // for both halves

  public:
    explicit FASTDROP_INLINE Coder(u32 threshold) {
        // With n = threshold / 2**16 - 1, a draw becomes max(draw, n) - n, and is then limited to
        // 2. For n = -1, it becomes max(draw, 1): with 0, the tie, 1 is left undecided, too.
        const int n = int(threshold >> 16) - 1;
        least = permute_bytes(u32(n < 0 ? -n : n), 0, 0x1010);
        shift = permute_bytes(u32(n < 0 ? 0 : -n), 0, 0x1010);
    }

    // The codes of a block in the place of the first block of a word.
    FASTDROP_INLINE u32 operator()(const Words& bits) const {
        u32 codes = 0;
#pragma unroll
        for (int w = 3; w >= 0; --w) {
            const u32 above = max_of_halves(bits.word[w], least);
            codes = (codes << 2) + min_of_sums_of_halves(above, shift, 0x00020002u);
        }
        return codes;
    }
};

constexpr u32 UNDECIDED = 0x55555555u;

// The number of the lowest bit that is set.
FASTDROP_INLINE int lowest_bit(u32 bits) {
#ifdef __CUDA_ARCH__
    return __ffs(int(bits)) - 1;
#else
    return __builtin_ctz(bits);
#endif
}

// A warp's elements: K rows of groups of E elements, one group of each row for each thread. Thread
// `lane` draws the blocks that begin in its groups; where a group is a part of a block, block
// `lane` of every WARP blocks.
//
// Where groups cut blocks, the last group ends in a block that is not drawn. The last OPEN groups
// are left to the next warp, so that it begins as this one does in its block, and at 32 bytes. With
// one more block drawn by each thread, float32 took 96, and not 80; without cuts it takes 76.
//
// Tried for masks of bits (223, of which 152 are Philox, 32 the minima and maxima, 17 the rest of
// the codes), without gain: the first products of consecutive blocks by additions to one of them,
// or by `mad.wide` (the compiler splits it): 234 and 236, and not 233; rows in a loop, for the sake
// of what a thread does once: 220 with 80 registers, and not 54; twice as many rows for the same:
// 219 with 70 registers, and half as many CUDA blocks for small masks; the low half alone to
// resolve a tie: 223.
template <int E, int K>
class WarpDecisions {
    static constexpr int PER_GROUP = E < BLOCK ? 1 : E / BLOCK;     // blocks
    static constexpr int PER_THREAD = (K * E + BLOCK - 1) / BLOCK;  // blocks
    static constexpr int CODES = (PER_THREAD + 1) / 2;              // words, of two blocks
    static constexpr int BITS = (PER_THREAD + 3) / 4;               // words, of four blocks
    static constexpr int CYCLE = E < BLOCK ? BLOCK / E : 1;         // rows that have WARP blocks
    static_assert(E <= 32, "the decisions for a group are bits of a word");

    u32 words[E < BLOCK ? CODES * CYCLE : BITS] = {};

    // From the warp's first block to block i of a thread.
    static FASTDROP_INLINE u32 distance(int i, u32 lane) {
        return (u32(i / PER_GROUP) * WARP + lane) * PER_GROUP + u32(i % PER_GROUP);
    }

    // Decide undecided elements.
    static FASTDROP_INLINE void resolve(u32 (&codes)[CODES], const Key& key, u64 block, u32 lane,
                                        u32 threshold) {
#pragma unroll 1
        while (true) {
            int word = 0;
            u32 undecided = 0;
#pragma unroll
            for (int n = 0; n < CODES; ++n) {
                const u32 here = codes[n] & UNDECIDED;
                word = here != 0 ? n : word;
                undecided = here != 0 ? here : undecided;
            }
            if (undecided == 0) return;
            const int bit = lowest_bit(undecided);
            const u64 its_block = block + distance(2 * word + (bit >> 3 & 1), lane);
            const u64 index = its_block * BLOCK + u64((bit & 6) + (bit >> 4));
            const bool kept = keep(key, index, threshold);
#pragma unroll
            for (int n = 0; n < CODES; ++n)
                if (n == word) codes[n] ^= (kept ? 3u : 1u) << bit;
        }
    }

    // The bits of two words of codes, in the order of the elements.
    static FASTDROP_INLINE u32 bits_of(u32 first, u32 second) {
        return (permute_bytes(first, second, 0x5410) >> 1) + permute_bytes(first, second, 0x7632);
    }

#ifdef __CUDA_ARCH__
    // Bits of the next group of each row: those of the next thread; for the last, those of the
    // first thread in the next row.
    static FASTDROP_INLINE u32 bits_of_next(const u32 (&bits)[BITS], int w, u32 lane) {
        constexpr int ROW = PER_GROUP * BLOCK;
        const u32 rest = w + 1 < BITS ? bits[w + 1 < BITS ? w + 1 : w] : 0;
        const u32 row_after = ROW == 32 ? rest : bits[w] >> ROW % 32 | rest << (32 - ROW) % 32;
        return __shfl_sync(~0u, lane == 0 ? row_after : bits[w], (lane + 1) % WARP);
    }

    // Groups of blocks, which their own thread has drawn.
    FASTDROP_INLINE void gather_blocks(const u32 (&bits)[BITS], u32 lane, u32 phase) {
        constexpr u32 ALL = ~0u >> (32 - E), ONE_EACH = ~0u / ALL;  // bits of a group; groups
#pragma unroll
        for (int w = 0; w < BITS; ++w) words[w] = bits[w];
        if (phase == 0) return;
        const u32 mine = ONE_EACH * (ALL >> phase);
#pragma unroll
        for (int w = 0; w < BITS; ++w) {
            const u32 next = bits_of_next(bits, w, lane);
            words[w] = (bits[w] >> phase & mine) | (next << (E - phase) & ~mine);
        }
    }

    // Groups that are parts of blocks, which any thread may have drawn.
    FASTDROP_INLINE void gather_parts(const u32 (&bits)[BITS], u32 lane, u32 phase) {
#pragma unroll
        for (int i = 0; i < PER_THREAD; i += 2) {
            const u32 next = phase != 0 ? bits_of_next(bits, i / 4, lane) : 0;
            // In each half, the bits of a block and of the next.
            const u32 windows = permute_bytes(bits[i / 4], next, i % 4 ? 0x7362 : 0x5140);
#pragma unroll
            for (int k = 0; k < CYCLE && i * CYCLE + k < K; ++k) {
                const u32 source = k * (WARP / CYCLE) + lane / CYCLE;
                words[i / 2 * CYCLE + k] =
                    __shfl_sync(~0u, windows, source) >> (lane % CYCLE * E + phase);
            }
        }
    }
#endif

  public:
    static constexpr int OPEN = CYCLE > 1 ? CYCLE : 2;

    // Decide for the calling thread's groups. The warp's first element is number `phase` of block
    // `block`; if E < 8, it is below E. If it is not 0, the last OPEN groups are not decided. All
    // threads of the warp call it together.
    FASTDROP_INLINE WarpDecisions(const Key& key, u64 block, u32 phase, u32 threshold) {
        const u32 lane = threadIdx.x % WARP;
#ifdef __CUDA_ARCH__
        const Philox philox = philox_of(key, u32(block >> 32), 0);
        const Coder coder(threshold);
        u32 codes[CODES] = {}, undecided = 0;
#pragma unroll
        for (int i = 0; i < PER_THREAD; ++i)
            codes[i / 2] += coder(philox(u32(block) + distance(i, lane))) << i % 2 * 8;
#pragma unroll
        for (int n = 0; n < CODES; ++n) undecided |= codes[n];
        // Where block numbers get another high word, once in 2**35 elements, bits are wrong.
        const bool carries = u32(block) > ~0u - WARP * PER_THREAD;
        if ((undecided & UNDECIDED) != 0 || carries) {
#pragma unroll
            for (int n = 0; n < CODES; ++n) codes[n] = carries ? UNDECIDED : codes[n];
            resolve(codes, key, block, lane, threshold);
        }
        u32 bits[BITS];
#pragma unroll
        for (int w = 0; w < BITS; ++w) {
            const bool has_two = 2 * w + 1 < CODES;
            bits[w] = bits_of(codes[2 * w], has_two ? codes[2 * w + has_two] : 0);
        }
        if constexpr (E < BLOCK)
            gather_parts(bits, lane, phase);
        else
            gather_blocks(bits, lane, phase);
#else  // threads cannot exchange anything on the host
        for (int k = 0; k < K; ++k) {
            u32 uniform[E];
            const u64 index = block * BLOCK + phase + (u64(k) * WARP + lane) * E;
            draw(key, mask_position(index), Comparison{threshold}, uniform);
            for (int e = 0; e < E; ++e)
                words[word_of(k)] |= u32(uniform[e] >= threshold) << (bit_of(k) + e);
        }
#endif
    }

    // Whether the elements of the thread's group in row k are kept: E bits of a word, from one on.
    static FASTDROP_INLINE constexpr int word_of(int k) {
        return E < BLOCK ? k / (2 * CYCLE) * CYCLE + k % CYCLE : k * E / 32;
    }
    static FASTDROP_INLINE constexpr int bit_of(int k) {
        return E < BLOCK ? k / CYCLE % 2 * 16 : k * E % 32;
    }
    FASTDROP_INLINE u32 kept(int k) const { return words[word_of(k)]; }
};

}  // namespace fastdrop
