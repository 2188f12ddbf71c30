// Masking of tokens: inputs and labels of a masked-token model. A thread computes 8 tokens. Arrays:
// the tokens, the inputs, which may be the same, the labels, and what says which tokens are special:
// marks, or a table and ids. tokens.py packs the words.

namespace fastdrop {

enum TokenWord {
    CHOSEN, MASKED, REPLACED,  // thresholds
    MASK_ID, IGNORED, VOCABULARY, HOW, LEAST, SPAN, TABLE_MASK, IS_EXACT, NUMBER
};
enum HowSpecial { NO_SPECIAL, BY_PLACE, BY_ID };

// Whether one of the sorted numbers at an address is `number`.
FASTDROP_INLINE bool is_among(u64 numbers, u64 count, u64 number) {
    u64 low = 0, high = count;
    while (low < high) {
        const u64 middle = (low + high) / 2;
        if (loaded<u64>(numbers + 8 * middle) < number) low = middle + 1;
        else high = middle;
    }
    return low < count && loaded<u64>(numbers + 8 * low) == number;
}

// Whether a token is special by its id.
template <class Bits>
FASTDROP_INLINE bool is_special(const Batch& b, Bits id) {
    const u64 offset = Bits(id - Bits(b.word[LEAST]));
    if (offset > b.word[SPAN]) return false;
    const u64 bit = offset & b.word[TABLE_MASK];
    if (!(loaded<u64>(b.address[4] + bit / 64 * 8) >> bit % 64 & 1)) return false;
    return b.word[IS_EXACT] || is_among(b.address[5], b.word[NUMBER], offset);
}

// Comparison of draws with two thresholds; those above all draws have no ties.
struct TwoThresholds {
    u64 first, second;

    template <int N>
    FASTDROP_INLINE bool has_tie(const u32 (&words)[N]) const {
        return Comparison{u32(first)}.has_tie(words) || Comparison{u32(second)}.has_tie(words);
    }
};

template <int SIZE>
FASTDROP_INLINE void mask_tokens(const Batch& b) {
    using Bits = typename BitsOf<SIZE>::type;
    const Part part = part_of<BLOCK>(b);
    if (part.count <= 0) return;
    const Key key = part.row.key;
    const u64 index = part.row.index + part.start, first = part.number * b.length + part.start;
    const u64 at = first * SIZE;
    const MaskPosition position = mask_position(index);

    u32 uniform[BLOCK];
    draw(key, position, Comparison{u32(b.word[CHOSEN])}, uniform);
    Bits id[BLOCK];
    u32 chosen = 0;
#pragma unroll
    for (int e = 0; e < BLOCK; ++e) {
        id[e] = 0;
        if (e >= part.count) continue;
        id[e] = loaded<Bits>(b.address[0] + at + u64(e * SIZE));
        bool is_chosen = uniform[e] < b.word[CHOSEN];
        if (is_chosen && b.word[HOW] == BY_PLACE)
            is_chosen = !loaded<u8>(b.address[3] + first + u64(e));
        else if (is_chosen && b.word[HOW] == BY_ID)
            is_chosen = !is_special<Bits>(b, id[e]);
        chosen |= u32(is_chosen) << e;
    }
    // Draw 1: bit 60 of the block is bit 28 of counter word 1, that of levels 2 and 3.
    u32 second[BLOCK] = {};
    if (chosen) {
        const MaskPosition there = {position.block + (1ull << 60), position.phase};
        draw(key, there, TwoThresholds{b.word[MASKED], b.word[REPLACED]}, second);
    }
    u32 random = 0;
#pragma unroll
    for (int e = 0; e < BLOCK; ++e) {
        if (e >= part.count) continue;
        const bool is_chosen = chosen >> e & 1, is_masked = is_chosen && second[e] < b.word[MASKED];
        random |= u32(is_chosen && !is_masked && second[e] < b.word[REPLACED]) << e;
        const u64 there = at + u64(e * SIZE);
        store<SIZE>(b.address[1] + there, is_masked ? Bits(b.word[MASK_ID]) : id[e], true);
        store<SIZE>(b.address[2] + there, is_chosen ? id[e] : Bits(b.word[IGNORED]), true);
    }
    // In a loop of its own, so that the code that draws is there once.
#pragma unroll 1
    for (int e = 0; e < BLOCK; ++e) {
        if (!(random >> e & 1)) continue;
        const u64 token = uniform_below(key, index + u64(e), 2, b.word[VOCABULARY]);
        store<SIZE>(b.address[1] + at + u64(e * SIZE), Bits(token), true);
    }
}

}  // namespace fastdrop
