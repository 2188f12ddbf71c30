// Softmax and dropout: kernels over rows, that is along the softmax axis.
//
// Several threads share a row; a block has a whole number of rows. A thread loads its part of the
// row in chunks of a few groups. It takes the exponentials of a chunk relative to the largest score
// in it, and adds them up (M. Milakov and N. Gimelshein, "Online normalizer calculation for
// softmax", 2018). The threads of a row merge their sums, always in the same order: by shuffles in
// a warp, and in shared memory between warps. Then each thread scales its exponentials and stores
// them. Those of its last chunk have stayed in registers, which is its only one in rows of up to 16
// KiB; those of others are computed again. Nothing is rounded to the storage type in between.
//
// What happens between two exchanges is a function of one thread, so that on the host a block can
// be run one thread after another.

namespace fastdrop {

// Groups of a thread in registers; softmax_driver.py chooses the number of threads by it.
constexpr int CHUNK = 4;

// Elements of -infinity, as the words of a group.
FASTDROP_INLINE u32 minus_infinity(Float16, int) { return 0xFC00FC00u; }
FASTDROP_INLINE u32 minus_infinity(Bfloat16, int) { return 0xFF80FF80u; }
FASTDROP_INLINE u32 minus_infinity(Float32, int) { return 0xFF800000u; }
FASTDROP_INLINE u32 minus_infinity(Float64, int word) { return word % 2 ? 0xFFF00000u : 0; }

// Operand 0 is y, operand 1 x and, in the backward, operand 2 dy.
//
// In Params, `groups` is the number of rows, `length` and `step` are those of a row, `width[0]` is
// not 0 if y is stored in groups, `row_groups.length` is the number of threads that share a row, a
// power of two whose logarithm is `row_groups.shift`, and `row_groups.index_step` the mask index
// stride along it. The axes are the outer ones.
//
// Chunk c of a row has CHUNK groups for each of its threads: those of a warp are adjacent, and
// those of a thread WARP groups apart.
template <class Storage_, bool BACKWARD>
struct Rows {
    using Storage = Storage_;
    using Value = typename Storage::Value;
    using Settings = Argument<AXES<ANY>>;
    static constexpr int N = BACKWARD ? 2 : 1, E = Storage::GROUP, WORDS = WORDS_OF<Storage, E>;
    static constexpr int ELEMENTS = CHUNK * E;  // of a thread in a chunk
    static_assert(ELEMENTS <= 32, "`kept` has a bit for each");

    int row, lane;  // the row's number in the block; the thread's in the row
    bool exists;
    Location<N> location;
    int skipped;        // elements of the first groups that are in front of the row
    i64 groups, whole;  // of the row; and without a partial one at the end
    // The chunk in registers: the thread's first group, -1 if there is none; how many of its groups
    // are whole; whether none is partial; the bits of elements that are kept; the exponentials;
    // and, in the backward, the gradients: dy where kept, 0 where dropped.
    i64 first;
    int count;
    bool even;
    u32 kept;
    Value e[ELEMENTS], g[BACKWARD ? ELEMENTS : 1];
    Sums<Value> chunk, total;

    FASTDROP_INLINE void begin(const Settings& p) {
        const u32 shift = p.row_groups.shift;
        row = int(threadIdx.x) >> shift;
        lane = int(threadIdx.x) & ((1 << shift) - 1);
        const u64 number = (u64(blockIdx.x) * THREADS >> shift) + u64(row);
        exists = number < p.groups;
        location.begin(p);
        if (p.axes == 1)  // the common case, which needs no division
            location.move(number, p.axis[0]);
        else
            location.move_to(number, p, 0);
        skipped = p.width[0] != 0 ? Storage::misalignment(location.address[0]) : 0;
        // Where groups are parts of blocks, as many empty ones as let a warp begin in the first
        // group of a block.
        if (p.row_groups.index_step == 1)
            skipped += int((u32(location.index) - u32(skipped)) % BLOCK) / E * E;
        const u64 end = p.length + u64(skipped);
        groups = i64((end + E - 1) / E);
        whole = i64(end / E);
    }

    // The thread's first group in chunk 0, and in the next chunk. All threads of a warp have a
    // chunk, or none has.
    FASTDROP_INLINE i64 first_group() const {
        return i64(lane / WARP * (WARP * CHUNK) + lane % WARP);
    }
    FASTDROP_INLINE i64 next_group(i64 group, const Settings& p) const {
        return group + (CHUNK << p.row_groups.shift);
    }
    FASTDROP_INLINE bool is_in_row(i64 group) const { return group - lane % WARP < groups; }

    FASTDROP_INLINE u64 address_of(int operand, i64 group, const Settings& p) const {
        return location.address[operand] + u64((group * E - skipped) * p.step[operand]);
    }

    // Load a chunk, with `empty(w)` as the words of elements that do not exist.
    template <class Empty>
    FASTDROP_INLINE void load(int operand, const Settings& p, const Empty& empty,
                              u32 (&x)[CHUNK][WORDS]) const {
        if (p.width[operand] == 16 && even) {
            const u64 address = address_of(operand, first, p);
            if (count == CHUNK) {
#pragma unroll
                for (int k = 0; k < CHUNK; ++k)
                    load_pieces<16>(address + u64(k * WARP * 16), x[k]);
                return;
            }
#pragma unroll
            for (int k = 0; k < CHUNK; ++k) {
#pragma unroll
                for (int w = 0; w < WORDS; ++w) x[k][w] = empty(w);
                if (k < count) load_pieces<16>(address + u64(k * WARP * 16), x[k]);
            }
            return;
        }
        // One group after another, the last first, each of which moves those behind it up: less
        // code, where it is rarely run.
#pragma unroll 1
        for (int k = CHUNK - 1; k >= 0; --k) {
#pragma unroll
            for (int m = CHUNK - 1; m > 0; --m)
#pragma unroll
                for (int w = 0; w < WORDS; ++w) x[m][w] = x[m - 1][w];
            const i64 group = first + k * WARP;
            const int from = begin_of(group), to = end_of(group, p);
            const u64 address = address_of(operand, group, p);
            u32 words[WORDS] = {}, nothing[WORDS];
            if (to - from == E && p.width[operand] != 0)
                load_group(address, p.width[operand], words);
            else if (from < to)
                load_elements<Storage, E>(address, p.step[operand], p.aligned[operand], from, to,
                                          words);
#pragma unroll
            for (int w = 0; w < WORDS; ++w) {
                nothing[w] = empty(w);
                x[0][w] = 0;
            }
#pragma unroll
            for (int i = 0; i < E; ++i) {
                const auto found = get_bits<Storage::SIZE>(words, i);
                const auto none = get_bits<Storage::SIZE>(nothing, i);
                put_bits<Storage::SIZE>(x[0], i, i >= from && i < to ? found : none);
            }
        }
    }

    // Which elements of a group exist: none, if the end is not behind the beginning.
    FASTDROP_INLINE int begin_of(i64 group) const {
        const i64 before = skipped - group * E;
        return before < 0 ? 0 : before < E ? int(before) : E;
    }
    FASTDROP_INLINE int end_of(i64 group, const Settings& p) const {
        const i64 left = i64(p.length) - (group * E - skipped);
        return left < E ? int(left < 0 ? 0 : left) : E;
    }

    // The bits of the elements that are kept.
    FASTDROP_INLINE u32 draw_kept(const Settings& p) const {
        if (p.degenerate) return p.threshold != 0 ? 0 : ~0u;
        using Decisions = WarpDecisions<E, CHUNK>;
        const Key key = key_of(p);
        const Comparison purpose{p.threshold};
        const u64 step = p.row_groups.index_step;
        u64 index = location.index + u64(first * E - skipped) * step;
        u32 bits = 0;
        if (step == 1) {  // all threads of a warp draw together
            const int thread = lane % WARP;
            const MaskPosition position = mask_position(index - u64(thread * E));
            const Decisions decisions(key, position.block, position.phase, p.threshold);
            u32 kept[CHUNK];
#pragma unroll
            for (int k = 0; k < CHUNK; ++k) kept[k] = decisions.kept(k) >> Decisions::bit_of(k);
            if (position.phase != 0 && thread >= WARP - Decisions::OPEN) {
                u32 uniform[E];
                draw(key, mask_position(index + u64((CHUNK - 1) * WARP * E)), purpose, uniform);
                kept[CHUNK - 1] = 0;
#pragma unroll
                for (int i = 0; i < E; ++i)
                    kept[CHUNK - 1] |= u32(uniform[i] >= p.threshold) << i;
            }
#pragma unroll
            for (int k = 0; k < CHUNK; ++k) bits |= (kept[k] & ((1u << E) - 1)) << k * E;
            return bits;
        }
#pragma unroll 1
        for (int k = 0; k < CHUNK; ++k, index += u64(WARP * E) * step)
#pragma unroll 1
            for (int i = 0; i < E; ++i) {
                u32 own[1];
                draw(key, mask_position(index + u64(i) * step), purpose, own);
                bits |= u32(own[0] >= p.threshold) << (k * E + i);
            }
        return bits;
    }

    // Compute the exponentials and the sums of the chunk that begins with a group.
    FASTDROP_INLINE void compute(i64 group, const Settings& p) {
        first = group;
        const i64 left = whole - first;
        count = left <= 0 ? 0 : left > (CHUNK - 1) * WARP ? CHUNK : int(left + WARP - 1) / WARP;
        even = first * E >= skipped && (count == CHUNK || first + count * WARP >= groups);
        u32 x[CHUNK][WORDS], dy[CHUNK][WORDS];
        load(1, p, [](int w) { return minus_infinity(Storage{}, w); }, x);
        if constexpr (BACKWARD) load(2, p, [](int) { return 0u; }, dy);
        kept = draw_kept(p);
        Value largest[CHUNK], sums[CHUNK];
#pragma unroll
        for (int i = 0; i < ELEMENTS; ++i) {
            e[i] = Storage::get(x[i / E], i % E);
            largest[i / E] = larger(i % E == 0 ? lowest<Value>() : largest[i / E], e[i]);
        }
        chunk = {larger(larger(largest[0], largest[1]), larger(largest[2], largest[3])), 0, 0};
        Reference<Value>(chunk.largest).take_exponentials(e);
#pragma unroll
        for (int i = 0; i < ELEMENTS; ++i)
            sums[i / E] = i % E == 0 ? e[i] : add(sums[i / E], e[i]);
        chunk.sum = add(add(sums[0], sums[1]), add(sums[2], sums[3]));
        if constexpr (BACKWARD) {
#pragma unroll
            for (int i = 0; i < ELEMENTS; ++i) {
                const Value gradient = Storage::get(dy[i / E], i % E);
                g[i] = is_set(kept, i) ? gradient : Value(0);
                sums[i / E] = i % E == 0 ? multiply(e[i], g[i])
                                         : multiply_add(e[i], g[i], sums[i / E]);
            }
            chunk.product = add(add(sums[0], sums[1]), add(sums[2], sums[3]));
        }
    }

    FASTDROP_INLINE void accumulate(const Settings& p) {
        total = {lowest<Value>(), 0, 0};
        first = -1;
        if (!exists) return;
#pragma unroll 1
        for (i64 group = first_group(); is_in_row(group); group = next_group(group, p)) {
            compute(group, p);
            if (group == first_group()) total = chunk;
            else total.merge(chunk);
        }
    }

    // Scale and store what `compute` has left. The factor is that of kept elements over the sum.
    FASTDROP_INLINE void store(Value factor, Value mean, const Settings& p) const {
        u32 y[CHUNK][WORDS] = {};
        const Reference<Value> reference(chunk.largest);
        factor = multiply(factor, reference.relative_to(Reference<Value>(total.largest)));
        const Value offset = -multiply(mean, factor);
        if (total.sum != 0) {  // otherwise all scores are -infinity
            Value values[E];
#pragma unroll
            for (int i = 0; i < ELEMENTS; ++i) {
                if constexpr (BACKWARD) {
                    values[i % E] = multiply(e[i], multiply_add(g[i], factor, offset));
                } else {
                    const Value s = multiply(e[i], factor);
                    values[i % E] = is_set(kept, i) ? s : Value(0);
                }
                if (i % E == E - 1) Storage::set(y[i / E], values);
            }
        }
        if (p.width[0] != 0 && even) {
            const u64 address = address_of(0, first, p);
#pragma unroll
            for (int k = 0; k < CHUNK; ++k)
                if (k < count) store_group(address + u64(k * WARP * 16), y[k]);
            return;
        }
#pragma unroll 1
        for (int k = 0; k < CHUNK; ++k) {
            const i64 group = first + k * WARP;
            const int from = begin_of(group), to = end_of(group, p);
            const u64 address = address_of(0, group, p);
            if (to - from == E && p.width[0] != 0)
                store_group(address, y[0]);
            else if (from < to)
                store_elements<Storage, E>(address, p.step[0], p.aligned[0], from, to, y[0]);
#pragma unroll
            for (int m = 1; m < CHUNK; ++m)
#pragma unroll
                for (int w = 0; w < WORDS; ++w) y[m - 1][w] = y[m][w];
        }
    }

    FASTDROP_INLINE void write(const Settings& p) {
        if (first < 0) return;
        // The sum is 0, NaN, or at least 2**-1/2. One step of Newton's method makes the reciprocal
        // as accurate as a division.
        Value inverse = reciprocal(total.sum);
        inverse = multiply_add(multiply_add(-total.sum, inverse, Value(1)), inverse, inverse);
        const Value factor = multiply(parameter<Value>(p, 0), inverse);
        const Value mean = multiply(total.product, inverse);
        const i64 last = first;
        store(factor, mean, p);
#pragma unroll 1
        for (i64 group = first_group(); group < last; group = next_group(group, p)) {
            compute(group, p);
            store(factor, mean, p);
        }
    }
};

// The threads that a caller runs: on the device itself; on the host all of a block, one after
// another.
#ifdef __CUDA_ARCH__
constexpr int TOGETHER = 1;
#else
constexpr int TOGETHER = THREADS;
#endif

template <class Step>
FASTDROP_INLINE void each_thread(const Step& step) {
#ifdef __CUDA_ARCH__
    step(0);
#else
    for (int t = 0; t < TOGETHER; ++t) {
        threadIdx.x = unsigned(t);
        step(t);
    }
#endif
}

// Reduce values of adjacent threads, `width` of them, a power of two up to MOST: each has the
// result.
template <int MOST, class Value, class Reduce>
FASTDROP_INLINE void reduce(Value (&values)[TOGETHER], int width, const Reduce& reduce_two) {
#pragma unroll
    for (int distance = 1; distance < MOST; distance *= 2) {
        if (distance >= width) continue;
#ifdef __CUDA_ARCH__
        values[0] = reduce_two(values[0], __shfl_xor_sync(~0u, values[0], distance));
#else
        Value before[TOGETHER];
        memcpy(before, values, sizeof(before));
        for (int t = 0; t < TOGETHER; ++t) values[t] = reduce_two(before[t], before[t ^ distance]);
#endif
    }
}

// Merge the totals of adjacent threads in the same way.
template <int MOST, bool BACKWARD, class Kernel>
FASTDROP_INLINE void merge(Kernel (&rows)[TOGETHER], int width) {
    using Value = typename Kernel::Value;
    const auto sum = [](Value a, Value b) { return add(a, b); };
    Value values[TOGETHER];
    each_thread([&](int t) { values[t] = rows[t].total.largest; });
    reduce<MOST>(values, width, [](Value a, Value b) { return larger(a, b); });
    each_thread([&](int t) {
        rows[t].total.rescale(values[t]);
        values[t] = rows[t].total.sum;
    });
    reduce<MOST>(values, width, sum);
    each_thread([&](int t) { rows[t].total.sum = values[t]; });
    if constexpr (BACKWARD) {
        each_thread([&](int t) { values[t] = rows[t].total.product; });
        reduce<MOST>(values, width, sum);
        each_thread([&](int t) { rows[t].total.product = values[t]; });
    }
}

template <class Storage, bool BACKWARD>
FASTDROP_INLINE void run_rows(const Argument<AXES<ANY>>& p) {
#ifndef __CUDA_ARCH__
    if (threadIdx.x + 1 < THREADS) return;  // the last thread runs all
#endif
    __shared__ Sums<typename Storage::Value> of_warp[THREADS / WARP];
    Rows<Storage, BACKWARD> rows[TOGETHER];
    each_thread([&](int t) {
        rows[t].begin(p);
        rows[t].accumulate(p);
    });
    merge<WARP, BACKWARD>(rows, WARP);
    const int warps = int(p.row_groups.length) / WARP;  // of a row
    if (warps > 1) {
        each_thread([&](int t) {
            if (threadIdx.x % WARP == 0) of_warp[threadIdx.x / WARP] = rows[t].total;
        });
        __syncthreads();
        each_thread([&](int t) {
            rows[t].total = of_warp[rows[t].row * warps + rows[t].lane % warps];
        });
        merge<THREADS / WARP, BACKWARD>(rows, warps);
    }
    each_thread([&](int t) { rows[t].write(p); });
}

}  // namespace fastdrop

#define FASTDROP_ROWS(NAME, STORAGE, BACKWARD)                                                \
    extern "C" __global__ void __launch_bounds__(fastdrop::THREADS, 2)                        \
        NAME(const __grid_constant__ fastdrop::Argument<fastdrop::AXES<fastdrop::ANY>> p) {   \
        fastdrop::run_rows<fastdrop::STORAGE, BACKWARD>(p);                                   \
    }
