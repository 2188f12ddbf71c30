// Bands of two axes filled with a value, as SpecAugment does. A thread draws the bands of a sample to
// device memory; then a thread copies, or fills, 16 bytes of a line at most.
// fastdrop_kernels.cpu.batch.bands has the same function, and explains lines and plans. Arrays: y, x,
// the plans, the values, the bands. Words: lines from sample to sample and along the outer axis, its
// length, elements of a line and of a place on the inner axis, whether that is time, numbers of bands,
// length of the frequency axis, most of a band there, words from plan to plan, bytes from value to
// value, whether x is y, and the number of lines.

namespace fastdrop {

enum BandWord {
    SAMPLE_LINES, OUTER_LINES, OUTER, LINE, SCALE, TIME_IS_INNER, TIMES, FREQUENCIES,
    FREQUENCY_LENGTH, FREQUENCY_WIDTH, PLAN_STEP, VALUE_STEP, IN_PLACE, LINES
};

struct Band {
    u64 begin, end;
};

FASTDROP_INLINE u64 band_address(const Batch& b, u64 sample, u64 band) {
    return b.address[4] + 16 * (sample * (b.word[TIMES] + b.word[FREQUENCIES]) + band);
}

FASTDROP_INLINE Band band_at(const Batch& b, u64 sample, u64 band) {
    const u64 at = band_address(b, sample, band);
    return {loaded<u64>(at), loaded<u64>(at + 8)};
}

// Bits of those of E elements from `start` on that are in a range.
template <int E>
FASTDROP_INLINE u32 bits_of(u64 start, u64 begin, u64 end) {
    const u64 first = begin > start ? begin - start : 0, last = end > start ? end - start : 0;
    if (first >= E || first >= last) return 0;
    return (1u << (last < E ? last : E)) - (1u << first);
}

// A thread for each sample.
FASTDROP_INLINE void draw_bands(const Batch& b) {
    const u64 sample = thread_number();
    if (sample >= b.rows) return;
    const Row row = row_of(b, sample);
    const u64 plan = b.address[2] + 8 * sample * b.word[PLAN_STEP];
    for (u64 k = 0; k < b.word[TIMES] + b.word[FREQUENCIES]; ++k) {
        const bool is_time = k < b.word[TIMES];
        const u64 length = is_time ? loaded<u64>(plan) : b.word[FREQUENCY_LENGTH];
        const u64 widest = is_time ? loaded<u64>(plan + 8) : b.word[FREQUENCY_WIDTH];
        const u64 width = uniform_below(row.key, row.index + 2 * k, 0, widest + 1);
        const u64 begin = uniform_below(row.key, row.index + 2 * k + 1, 0, length - width + 1);
        const u64 at = band_address(b, sample, k);
        store_bits(at, begin);
        store_bits(at + 8, begin + width);
    }
}

// Elements of SIZE bytes; a thread for each 16 bytes of a line.
template <int SIZE>
FASTDROP_INLINE void fill_bands(const Batch& b) {
    using Bits = typename BitsOf<SIZE>::type;
    constexpr int E = 16 / SIZE;
    const u64 line_length = b.word[LINE], parts = (line_length + E - 1) / E;
    const u64 line = thread_number() / parts, start = thread_number() % parts * E;
    if (line >= b.word[LINES]) return;
    const u64 sample = b.word[SAMPLE_LINES] ? line / b.word[SAMPLE_LINES] % b.rows : 0;
    const u64 outer = line / b.word[OUTER_LINES] % b.word[OUTER];
    const int count = line_length - start < E ? int(line_length - start) : E;
    const u64 valid = loaded<u64>(b.address[2] + 8 * sample * b.word[PLAN_STEP]);
    const u64 times = b.word[TIMES], every = times + b.word[FREQUENCIES], scale = b.word[SCALE];
    const bool time_is_inner = b.word[TIME_IS_INNER];
    u32 filled = 0;
    for (u64 k = 0; k < every; ++k) {
        const Band band = band_at(b, sample, k);
        if ((k < times) == time_is_inner) {
            filled |= bits_of<E>(start, band.begin * scale, band.end * scale);
        } else if (band.begin <= outer && outer < band.end) {
            filled = ~0u;
        }
    }
    // Of the line's elements without padding.
    filled &= bits_of<E>(start, 0, time_is_inner ? valid * scale : outer < valid ? line_length : 0);
    if (b.word[IN_PLACE] && filled == 0) return;
    const Bits value = loaded<Bits>(b.address[3] + sample * b.word[VALUE_STEP]);
    const u64 offset = (line * line_length + start) * SIZE;
    const u64 y = b.address[0] + offset, x = b.address[1] + offset;
    if (count == E && (x | y) % 16 == 0) {
        u32 given[4], words[4] = {};
        load_pieces<16>(x, given);
#pragma unroll
        for (int e = 0; e < E; ++e)
            put_bits<SIZE>(words, e, filled >> e & 1 ? value : get_bits<SIZE>(given, e));
        store_group(y, words);
        return;
    }
#pragma unroll
    for (int e = 0; e < E; ++e) {
        const bool is_filled = filled >> e & 1;
        if (e < count && (is_filled || !b.word[IN_PLACE]))
            store<SIZE>(y + u64(e * SIZE),
                        is_filled ? value : load<SIZE>(x + u64(e * SIZE), true), true);
    }
}

}  // namespace fastdrop
