// Rectangles of images: filled, and the rest copied from x unless y is x. Arrays: y, x, rectangles
// (top, left, height and width of each, in pixels), values. An image has planes of rows of pixels.
// Words: rows of pixels of a plane, elements of such a row, elements of a pixel, rectangles of an
// image, whether x is copied, bytes of the steps of the values along images, planes, rows, pixels
// and elements of a pixel.

namespace fastdrop {

FASTDROP_INLINE u64 quotient(u64 a, u64 b) {
    return (a | b) >> 32 ? a / b : u32(a) / u32(b);  // the short one takes a quarter of the time
}

// An element's place.
struct Pixel {
    u64 image, plane, row, column;  // the column in elements

    // The element after a number of them in all images.
    FASTDROP_INLINE Pixel(const Batch& b, u64 element) {
        const u64 height = b.word[0], length = b.word[1];
        image = quotient(element, b.length);
        const u64 rest = element - image * b.length, rows = quotient(rest, length);
        column = rest - rows * length;
        plane = quotient(rows, height);
        row = rows - plane * height;
    }
    FASTDROP_INLINE void next(const Batch& b) {
        if (++column < b.word[1]) return;
        column = 0;
        if (++row < b.word[0]) return;
        row = 0;
        if (++plane * b.word[0] * b.word[1] < b.length) return;
        plane = 0;
        ++image;
    }
    FASTDROP_INLINE u64 value(const Batch& b) const {
        const u64 pixel = b.word[2], x = pixel == 1 ? column : quotient(column, pixel);
        return b.address[3] + image * b.word[5] + plane * b.word[6] + row * b.word[7] +
               x * b.word[8] + (column - x * pixel) * b.word[9];
    }
};

// Which of up to 32 elements from a place on are in a rectangle, as bits.
FASTDROP_INLINE u32 erased(const Batch& b, const Pixel& first, int count) {
    const u64 many = b.word[3], pixel = b.word[2];
    const bool one_row = first.column + u64(count) <= b.word[1];
    u32 bits = 0;
    for (u64 k = 0; k < many; ++k) {
        Pixel at = first;
        u64 image = ~u64(0), top = 0, left = 0, height = 0, width = 0;
        for (int e = 0; e < count; ++e) {
            if (at.image != image) {
                image = at.image;
                const u64 rectangle = b.address[2] + (image * many + k) * 32;
                top = loaded<u64>(rectangle);
                left = loaded<u64>(rectangle + 8) * pixel;
                height = loaded<u64>(rectangle + 16);
                width = loaded<u64>(rectangle + 24) * pixel;
            }
            if (one_row && at.row - top >= height) break;  // so are the others
            bits |= u32(at.row - top < height && at.column - left < width) << e;
            at.next(b);
        }
    }
    return bits;
}

// Values of elements of a size. A thread has 16 bytes.
template <int SIZE>
FASTDROP_INLINE void erase(const Batch& b) {
    using Bits = typename BitsOf<SIZE>::type;
    constexpr int E = 16 / SIZE;
    const u64 total = b.rows * b.length, start = thread_number() * E;
    if (start >= total) return;
    const int count = total - start < E ? int(total - start) : E;
    const bool copies = b.word[4] != 0;
    Pixel at(b, start);
    const u32 bits = erased(b, at, count);
    if (!copies && bits == 0) return;
    const u64 x = b.address[1] + start * SIZE, y = b.address[0] + start * SIZE;
    if (count == E && (x | y) % 16 == 0) {
        u32 words[4], made[4] = {};
        load_pieces<16>(x, words);
#pragma unroll
        for (int e = 0; e < E; ++e) {
            Bits element = get_bits<SIZE>(words, e);
            if (bits >> e & 1) element = load<SIZE>(at.value(b), true);
            put_bits<SIZE>(made, e, element);
            at.next(b);
        }
        store_group(y, made);
        return;
    }
    for (int e = 0; e < count; ++e) {
        const u64 offset = u64(e * SIZE);
        if (bits >> e & 1) store<SIZE>(y + offset, load<SIZE>(at.value(b), true), true);
        else if (copies) store<SIZE>(y + offset, load<SIZE>(x + offset, true), true);
        at.next(b);
    }
}

// Normal numbers of the elements' draw 1. A thread has 8 elements of an image.
template <class Storage>
FASTDROP_INLINE void erase_noise(const Batch& b) {
    using Value = typename Storage::Value;
    constexpr int SIZE = Storage::SIZE;
    const Part part = part_of<BLOCK>(b);
    if (part.count <= 0) return;
    const u64 start = part.number * b.length + part.start;
    const bool copies = b.word[4] != 0;
    const u32 bits = erased(b, Pixel(b, start), part.count);
    float normal[BLOCK] = {};
    if (bits) {
        u32 upper[BLOCK / 2], lower[BLOCK / 2], uniform[BLOCK];
        const MaskPosition position = mask_position(part.row.index + part.start);
        halves<BLOCK>(part.row.key, position, 2, upper);
        halves<BLOCK>(part.row.key, position, 3, lower);
#pragma unroll
        for (int e = 0; e < BLOCK; ++e)
            uniform[e] = permute_bytes(lower[e / 2], upper[e / 2], e % 2 ? 0x7632 : 0x5410);
        standard_normals(uniform, normal);
    }
    const u64 x = b.address[1] + start * SIZE, y = b.address[0] + start * SIZE;
#pragma unroll
    for (int e = 0; e < BLOCK; ++e) {
        const u64 offset = u64(e * SIZE);
        if (e >= part.count) continue;
        if (bits >> e & 1) {
            const Value number[1] = {to_value<Value>(normal[e])};
            u32 words[(SIZE + 3) / 4] = {};
            Storage::set(words, number);
            store<SIZE>(y + offset, get_bits<SIZE>(words, 0), true);
        } else if (copies) {
            store<SIZE>(y + offset, load<SIZE>(x + offset, true), true);
        }
    }
}

}  // namespace fastdrop
