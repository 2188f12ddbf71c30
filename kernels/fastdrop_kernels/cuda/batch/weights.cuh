// Random weights: how many thresholds an element's uniform reaches, times a factor. A thread
// computes 8 elements. Arrays: y, the thresholds, the factor. Word 0: the number of thresholds.

namespace fastdrop {

// Integers of an array of a size; the factor is a 32-bit integer.
template <int SIZE>
struct Integer {
    static constexpr int BYTES = SIZE;
    static FASTDROP_INLINE void write(u64 address, u32 count, u64 factor) {
        const i64 product = i64(int(count) * int(loaded<u32>(factor)));
        store<SIZE>(address, typename BitsOf<SIZE>::type(product), true);
    }
};

// Floating-point numbers; the factor is of the compute type.
template <class Storage>
struct Floating {
    static constexpr int BYTES = Storage::SIZE;
    using Value = typename Storage::Value;
    static FASTDROP_INLINE void write(u64 address, u32 count, u64 factor) {
        const Value factors = bit_cast<Value>(loaded<typename BitsOf<sizeof(Value)>::type>(factor));
        const Value product[1] = {multiply(to_value<Value>(float(int(count))), factors)};
        u32 words[(BYTES + 3) / 4] = {};
        Storage::set(words, product);
        store<BYTES>(address, get_bits<BYTES>(words, 0), true);
    }
};

template <class Element>
FASTDROP_INLINE void weights(const Batch& b) {
    const Part part = part_of<BLOCK>(b);
    if (part.count <= 0) return;
    u32 uniform[BLOCK];
    draw(part.row.key, mask_position(part.row.index + part.start), AllBits{}, uniform);
    u32 count[BLOCK] = {};
    for (u64 k = 0; k < b.word[0]; ++k) {
        const u32 threshold = loaded<u32>(b.address[1] + 4 * k);
#pragma unroll
        for (int e = 0; e < BLOCK; ++e) count[e] += uniform[e] >= threshold;
    }
    const u64 y = b.address[0] + (part.number * b.length + part.start) * Element::BYTES;
#pragma unroll
    for (int e = 0; e < BLOCK; ++e)
        if (e < part.count) Element::write(y + u64(e * Element::BYTES), count[e], b.address[2]);
}

}  // namespace fastdrop
