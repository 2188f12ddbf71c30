// The base of the functions on batches: rows of elements, each with a key and a first mask index.
// launch.py packs `Batch`, the argument of their kernels; a test compares the offsets of its fields.

#ifndef FASTDROP_BATCH
#define FASTDROP_BATCH

namespace fastdrop {

constexpr int BATCH_ARRAYS = 8, BATCH_WORDS = 16;

struct Batch {
    u64 address[BATCH_ARRAYS];  // of the arrays
    u64 seed, stream;           // of all rows, unless they have keys of their own
    u64 key;                    // address of seed and stream in device memory, if not 0
    u64 table;                  // address of seed, stream and index of each row, if not 0
    u64 has_keys;               // whether seed and stream of the table count
    u64 rows, length, last;     // rows, elements of a row, elements of the last row
    u64 first, step;            // mask index of the first element, and from row to row
    u64 word[BATCH_WORDS];      // what else a function needs
};

// A row: its key, the mask index of its first element, and its length.
struct Row {
    Key key;
    u64 index;
    u64 length;
};

FASTDROP_INLINE Row row_of(const Batch& b, u64 number) {
    Row row = {{b.seed, b.stream}, b.first + number * b.step,
               number + 1 < b.rows ? b.length : b.last};
    if (b.key) row.key = *reinterpret_cast<const Key*>(b.key);
    if (b.table) {
        const u64* const entry = reinterpret_cast<const u64*>(b.table) + 3 * number;
        if (b.has_keys) row.key = {entry[0], entry[1]};
        row.index = entry[2];
    }
    return row;
}

// The k-th array, of elements of a type.
template <class T>
FASTDROP_INLINE T* array_at(const Batch& b, int k) {
    return reinterpret_cast<T*>(b.address[k]);
}

// The number of the calling thread.
FASTDROP_INLINE u64 thread_number() { return u64(blockIdx.x) * THREADS + threadIdx.x; }

// A thread's part of a row: elements from `start` on, at most E of them.
struct Part {
    Row row;
    u64 number;  // of the row
    u64 start;
    int count;   // 0 or less: none
};

// The part of the calling thread, if each row is cut into parts of E elements. A launch has as many
// threads as there are rows times parts of a whole row.
template <int E>
FASTDROP_INLINE Part part_of(const Batch& b) {
    const u64 parts = (b.length + E - 1) / E, thread = thread_number();
    Part part = {{}, thread / parts, thread % parts * E, 0};
    if (part.number >= b.rows) return part;
    part.row = row_of(b, part.number);
    if (part.start < part.row.length) {
        const u64 left = part.row.length - part.start;
        part.count = left < E ? int(left) : E;
    }
    return part;
}

}  // namespace fastdrop

#endif

// An entry point. BODY is a function of the namespace that takes the argument.
#undef FASTDROP_BATCH_KERNEL
#define FASTDROP_BATCH_KERNEL(NAME, ...)                                         \
    extern "C" __global__ void __launch_bounds__(fastdrop::THREADS)              \
        NAME(const __grid_constant__ fastdrop::Batch b) {                        \
        fastdrop::__VA_ARGS__(b);                                                \
    }
