// Elements of a table that take the values of other rows of their columns, and permutations of the
// rows of each column. A thread computes 8 elements.

namespace fastdrop {

// Draw 1 of 8 elements.
FASTDROP_INLINE void second_draw(const Key& key, u64 index, u32 (&uniform)[BLOCK]) {
    const MaskPosition position = mask_position(index);
    u32 high[BLOCK / 2], low[BLOCK / 2];
    halves<BLOCK>(key, position, 2, high);
    halves<BLOCK>(key, position, 3, low);
#pragma unroll
    for (int e = 0; e < BLOCK; ++e)
        uniform[e] = permute_bytes(low[e / 2], high[e / 2], e % 2 ? 0x7632 : 0x5410);
}

template <int SIZE>
FASTDROP_INLINE void move(u64 source, u64 target, bool aligned) {
    if constexpr (SIZE == 16) {  // whose alignment is that of its halves
        const u64 first = load<8>(source, aligned), second = load<8>(source + 8, aligned);
        store<8>(target, first, aligned);
        store<8>(target + 8, second, aligned);
    } else {
        store<SIZE>(target, load<SIZE>(source, aligned), aligned);
    }
}

// Arrays: x, the source, y, the mask, and the rows that are chosen for each column. Words: columns,
// threshold, rows of the source, 2**32 modulo these, strides of rows and columns of x, source and y;
// whether there is a mask, whether rows are chosen, whether addresses are aligned.
template <int SIZE>
FASTDROP_INLINE void swap_rows(const Batch& b) {
    const Part part = part_of<BLOCK>(b);
    if (part.count <= 0) return;
    const u64 index = part.row.index + part.start;
    const u64 columns = b.word[0], threshold = b.word[1], rows = b.word[2];
    u32 uniform[BLOCK], second[BLOCK];
    draw(part.row.key, mask_position(index), Comparison{u32(threshold)}, uniform);
    if (!b.word[11]) second_draw(part.row.key, index, second);
    const u64 position = part.number * b.length + part.start;
    u64 row = position / columns, column = position % columns;
#pragma unroll
    for (int e = 0; e < BLOCK; ++e) {
        if (e >= part.count) break;
        const bool kept = uniform[e] >= threshold;
        u64 from = b.address[0] + row * b.word[4] + column * b.word[5];
        if (!kept) {
            u64 other;
            if (b.word[11]) {
                other = loaded<u32>(b.address[4] + 4 * (column * rows + row));
            } else {
                const u64 product = second[e] * rows;
                other = product >> 32;
                if (u32(product) < b.word[3])
                    other = uniform_below(part.row.key, index + u64(e), 1, rows);
            }
            from = b.address[1] + other * b.word[6] + column * b.word[7];
        }
        move<SIZE>(from, b.address[2] + row * b.word[8] + column * b.word[9], b.word[12] != 0);
        if (b.word[10]) store<1>(b.address[3] + position + u64(e), kept, true);
        if (++column == columns) {
            column = 0;
            ++row;
        }
    }
}

// An entry is draw 1 of an element, above its row. Whether one precedes another of the same column,
// whose first element has a mask index; equal draws are followed by the next ones.
FASTDROP_INLINE bool entry_precedes(const Row& column, u64 a, u64 b) {
    if (a >> 32 != b >> 32) return a >> 32 < b >> 32;
    return precedes(column.key, column.index + u32(a), column.index + u32(b), 2);
}

// Draw entries, and sort each 8 of a column. Array: the entries, a row for each column.
FASTDROP_INLINE void entries(const Batch& b) {
    const Part part = part_of<BLOCK>(b);
    if (part.count <= 0) return;
    u32 uniform[BLOCK];
    second_draw(part.row.key, part.row.index + part.start, uniform);
    u64 entry[BLOCK];
#pragma unroll
    for (int e = 0; e < BLOCK; ++e) entry[e] = u64(uniform[e]) << 32 | (part.start + u64(e));
#pragma unroll
    for (int turn = 0; turn < BLOCK; ++turn)
#pragma unroll
        for (int e = turn % 2; e + 1 < BLOCK; e += 2)
            if (e + 1 < part.count && entry_precedes(part.row, entry[e + 1], entry[e])) {
                const u64 other = entry[e];
                entry[e] = entry[e + 1];
                entry[e + 1] = other;
            }
    u64* const target = array_at<u64>(b, 0) + part.number * b.length + part.start;
#pragma unroll
    for (int e = 0; e < BLOCK; ++e)
        if (e < part.count) target[e] = entry[e];
}

// Merge sorted runs of a column two by two, to the second array. Word: the length of a run, a
// multiple of 8.
FASTDROP_INLINE void merge(const Batch& b) {
    const Part part = part_of<BLOCK>(b);
    if (part.count <= 0) return;
    const u64 run = b.word[0], begin = part.start / (2 * run) * (2 * run), n = part.row.length;
    const u64 left = n - begin < run ? n - begin : run;
    const u64 right = n - begin < 2 * run ? n - begin - left : run;
    const u64* const from = array_at<const u64>(b, 0) + part.number * b.length + begin;
    const u64* const other = from + left;
    // How many of the entries before this part are of the first run: the least i such that entry i
    // of it does not precede entry before - i - 1 of the second.
    const u64 before = part.start - begin;
    u64 i = before > right ? before - right : 0, most = before < left ? before : left;
    while (i < most) {
        const u64 middle = (i + most) / 2;
        if (entry_precedes(part.row, from[middle], other[before - middle - 1])) i = middle + 1;
        else most = middle;
    }
    u64 j = before - i;
    u64* const target = array_at<u64>(b, 1) + part.number * b.length + part.start;
    for (int e = 0; e < part.count; ++e) {
        const bool first = j == right || (i < left && entry_precedes(part.row, from[i], other[j]));
        target[e] = first ? from[i++] : other[j++];
    }
}

// Write the rows of sorted entries to the second array.
FASTDROP_INLINE void rows_of_entries(const Batch& b) {
    const Part part = part_of<BLOCK>(b);
    const u64 begin = part.number * b.length + part.start;
    for (int e = 0; e < part.count; ++e)
        array_at<u32>(b, 1)[begin + u64(e)] = u32(array_at<const u64>(b, 0)[begin + u64(e)]);
}

}  // namespace fastdrop
