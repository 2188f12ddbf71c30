// Masks of spans. A thread draws a row into sets of bits in device memory; then a kernel over all
// elements makes bytes of them. fastdrop_kernels.cpu.batch.spans has the same functions, and explains
// plans. Arrays: the mask, the plans, SpanBERT's thresholds, the sets. Words: words of a set, words
// from plan to plan, and what the kind needs.
//
// Word w of set s of row r is at ((s * words) + w) * rows + r, so that neighbouring threads, which
// are about as far in their rows, access neighbouring words.

namespace fastdrop {

// A set of positions of a row.
class Positions {
    u64 address, step;

    FASTDROP_INLINE u64 word(u64 k) const { return loaded<u64>(address + k * step); }
    FASTDROP_INLINE void add_to_word(u64 k, u64 bits) const {
        store_bits(address + k * step, word(k) | bits);
    }

  public:
    FASTDROP_INLINE Positions(const Batch& b, u64 row, u64 set)
        : address(b.address[3] + 8 * (set * b.word[0] * b.rows + row)), step(8 * b.rows) {}

    FASTDROP_INLINE void clear(u64 words) const {
        for (u64 k = 0; k < words; ++k) store_bits(address + k * step, u64(0));
    }
    FASTDROP_INLINE bool has(u64 at) const { return word(at / 64) >> at % 64 & 1; }
    FASTDROP_INLINE void add(u64 at) const { add_to_word(at / 64, u64(1) << at % 64); }
    FASTDROP_INLINE void add_range(u64 at, u64 n) const {
        while (n) {
            const u64 room = 64 - at % 64, m = n < room ? n : room;
            add_to_word(at / 64, ~u64(0) >> (64 - m) << at % 64);
            at += m;
            n -= m;
        }
    }
    // The first position from `at` on; there must be one.
    FASTDROP_INLINE u64 next(u64 at) const {
        u64 k = at / 64, rest = word(k) >> at % 64;
        if (rest == 0) {
            do rest = word(++k);
            while (rest == 0);
            at = 64 * k;
        }
        while (!(rest & 1)) rest >>= 1, ++at;
        return at;
    }
    // The bits of 64 positions from 64 * k on.
    FASTDROP_INLINE u64 bits(u64 k) const { return word(k); }
};

struct Plan {
    u64 valid, count, more;
};

FASTDROP_INLINE Plan plan_of(const Batch& b, u64 row) {
    const u64 at = b.address[1] + 8 * row * b.word[1];
    return {loaded<u64>(at), loaded<u64>(at + 8), loaded<u64>(at + 16)};
}

// Add n of `total` positions, each subset equally likely, by Floyd's rule. Where `length` is not 0,
// add as many elements from each position on to `spans`.
FASTDROP_INLINE void choose(const Positions& chosen, u64 n, u64 total, u64 first, const Row& row,
                            const Positions& spans, u64 length) {
    for (u64 k = 0; k < n; ++k) {
        const u64 highest = total - n + k;
        u64 place = uniform_below(row.key, row.index + first + k, 1, highest + 1);
        if (chosen.has(place)) place = highest;
        chosen.add(place);
        if (length) spans.add_range(place, length);
    }
}

// The number of spans of one length: one more than planned by chance.
FASTDROP_INLINE u64 rounded(const Plan& plan, const Row& row) {
    return plan.count + (plan.more && uniform32(row.key, row.index) < plan.more);
}

struct Overlapping {
    static constexpr int SETS = 2;
    static FASTDROP_INLINE void draw(const Batch& b, u64 r, const Row& row, const Plan& plan) {
        const u64 length = b.word[2];
        const Positions spans(b, r, 0), chosen(b, r, 1);
        choose(chosen, rounded(plan, row), plan.valid - length + 1, 0, row, spans, length);
    }
};

struct Spaced {
    static constexpr int SETS = 2;
    static FASTDROP_INLINE void draw(const Batch& b, u64 r, const Row& row, const Plan& plan) {
        const u64 length = b.word[2], apart = length + b.word[3] - 1, count = rounded(plan, row);
        const Positions spans(b, r, 0), chosen(b, r, 1);
        if (!count) return;
        choose(chosen, count, plan.valid - length + 1 - (count - 1) * apart, 0, row, spans, 0);
        for (u64 k = 0, at = 0; k < count; ++k, ++at) {
            at = chosen.next(at);
            spans.add_range(at + k * apart, length);
        }
    }
};

struct SpanBert {
    static constexpr int SETS = 1;
    static FASTDROP_INLINE void draw(const Batch& b, u64 r, const Row& row, const Plan& plan) {
        const Positions spans(b, r, 0);
        u64 left = plan.count, k = 0, turn = 0;
        Key key = row.key;
        for (; left; ++k) {
            if (k == plan.valid) {  // every element of the row has drawn
                k = 0;
                key = derive(row.key, (1ull << 32) + ++turn);
            }
            u64 at = uniform_below(key, row.index + k, 1, plan.valid);
            if (spans.has(at)) continue;
            const u32 uniform = uniform32(key, row.index + k);
            u64 length = 1;
            while (length <= b.word[2] && uniform >= loaded<u32>(b.address[2] + 4 * (length - 1)))
                ++length;
            for (; length && at < plan.valid && left; --length, ++at) {
                if (spans.has(at)) continue;
                spans.add(at);
                --left;
            }
        }
    }
};

struct T5 {
    static constexpr int SETS = 3;
    static FASTDROP_INLINE void draw(const Batch& b, u64 r, const Row& row, const Plan& plan) {
        const u64 masked = plan.count, kept = plan.valid - masked, cuts = plan.more - 1;
        const Positions spans(b, r, 0), of_spans(b, r, 1), of_gaps(b, r, 2);
        if (!masked) return;
        choose(of_spans, cuts, masked - 1, 0, row, spans, 0);
        choose(of_gaps, cuts, kept - 1, cuts, row, spans, 0);
        u64 gap = 0, span = 0, at = 0;
        for (u64 k = 0; k < cuts; ++k) {
            const u64 next_gap = of_gaps.next(gap) + 1, next_span = of_spans.next(span) + 1;
            at += next_gap - gap;
            spans.add_range(at, next_span - span);
            at += next_span - span;
            gap = next_gap, span = next_span;
        }
        spans.add_range(at + kept - gap, masked - span);
    }
};

// A thread for each row.
template <class Kind>
FASTDROP_INLINE void draw_spans(const Batch& b) {
    const u64 r = thread_number();
    if (r >= b.rows) return;
    for (u64 set = 0; set < Kind::SETS; ++set) Positions(b, r, set).clear(b.word[0]);
    Kind::draw(b, r, row_of(b, r), plan_of(b, r));
}

// A thread for each 16 elements of a row.
FASTDROP_INLINE void write_kept(const Batch& b) {
    const Part part = part_of<16>(b);
    if (part.count <= 0) return;
    const u64 word = Positions(b, part.number, 0).bits(part.start / 64);
    const u32 kept = ~u32(word >> part.start % 64);
    u32 words[4];
#pragma unroll
    for (int w = 0; w < 4; ++w) {
        const u32 few = kept >> 4 * w;
        words[w] = (few & 1) | (few & 2) << 7 | (few & 4) << 14 | (few & 8) << 21;
    }
    const u64 y = b.address[0] + part.number * b.length + part.start;
    if (part.count == 16 && y % 16 == 0) {
        store_group(y, words);
        return;
    }
#pragma unroll
    for (int e = 0; e < 16; ++e)
        if (e < part.count) store_bits(y + u64(e), get_bits<1>(words, e));
}

}  // namespace fastdrop
