// Softmax and dropout: kernels over rows, that is along the softmax axis.
//
// Several threads share a row; a block has a whole number of rows. Each thread makes two passes
// over its part of the row. The first finds the largest score and the sum of exponentials relative
// to it (M. Milakov and N. Gimelshein, "Online normalizer calculation for softmax", 2018); threads
// merge these in shared memory, always in the same order. The second pass reads the scores again,
// now from the cache, and writes the result. Nothing is rounded to the storage type in between.
//
// The work between two barriers is a function of the thread's number only, so that on the host a
// block can be run one thread after another.

namespace fastdrop {

constexpr int FAN_IN = 16;  // sums that one thread merges

// Partial results of a row: the largest score, the sum of exp(x - largest), and the sum of its
// products with the gradient of the softmax.
template <class Value>
struct Sums {
    Value largest, sum, product;
};

template <class Value>
FASTDROP_INLINE Sums<Value> merge(const Sums<Value>& a, const Sums<Value>& b) {
    const Value top = a.largest > b.largest ? a.largest : b.largest;
    // Avoid inf - inf.
    const Value first = a.largest == top ? Value(1) : exponential(a.largest - top);
    const Value second = b.largest == top ? Value(1) : exponential(b.largest - top);
    return {top, a.sum * first + b.sum * second, a.product * first + b.product * second};
}

// E consecutive elements of a row: the position of the first, and which of them exist.
struct RowGroup {
    i64 first;
    int from, to;
};

// Operand 0 is y, operand 1 x and, in the backward, operand 2 dy.
//
// In Params, `groups` is the number of rows, `length` and `step` are those of a row, `width[0]` is
// not 0 if y is stored in groups, `row_groups.length` is the number of threads that share a row,
// and `row_groups.index_step` the mask index stride along it. The axes are the outer ones.
template <class Storage_, bool BACKWARD>
struct Rows {
    using Storage = Storage_;
    using Value = typename Storage::Value;
    using Settings = Argument<AXES<ANY>>;
    static constexpr int N = BACKWARD ? 2 : 1, E = Storage::GROUP, WORDS = WORDS_OF<Storage, E>;

    const Settings& p;
    Sums<Value>* all;      // of every thread of the block
    Sums<Value>* partial;  // each merged from FAN_IN threads
    int threads, lane, row;  // number of threads of a row; this thread's; the row's in the block
    u64 number;              // of the row
    Location<N> location;
    int skipped;        // elements of part 0 that are in front of the row

    FASTDROP_INLINE Rows(const Settings& settings, Sums<Value>* sums, Sums<Value>* partial_sums)
        : p(settings), all(sums), partial(partial_sums), threads(int(p.row_groups.length)),
          lane(int(threadIdx.x) % threads), row(int(threadIdx.x) / threads),
          number(u64(blockIdx.x) * u64(THREADS / threads) + u64(row)) {
        location.begin(p);
        if (p.axes == 1)  // the common case, which needs no division
            location.move(number, p.axis[0]);
        else
            location.move_to(number, p, 0);
        skipped = p.width[0] != 0 ? Storage::misalignment(location.address[0]) : 0;
    }

    FASTDROP_INLINE bool exists() const { return number < p.groups; }

    FASTDROP_INLINE RowGroup part(i64 slot) const {
        const i64 first = slot * E - skipped, left = i64(p.length) - first;
        return {first, first < 0 ? skipped : 0, left < E ? int(left) : E};
    }

    FASTDROP_INLINE void read(int operand, const RowGroup& part, Value (&values)[E]) const {
        u32 words[WORDS] = {};
        const u64 address = location.address[operand] + u64(part.first * p.step[operand]);
        if (part.to - part.from == E && p.width[operand] != 0)
            load_group(address, p.width[operand], words);
        else
            load_elements<Storage, E>(address, p.step[operand], p.aligned[operand], part.from,
                                      part.to, words);
#pragma unroll
        for (int e = 0; e < E; ++e) values[e] = Storage::get(words, e);
    }

    // Scores; -infinity, with weight 0, for elements that do not exist.
    FASTDROP_INLINE void read_scores(const RowGroup& part, Value (&values)[E]) const {
        read(1, part, values);
#pragma unroll
        for (int e = 0; e < E; ++e)
            values[e] = e >= part.from && e < part.to ? values[e] : -infinity();
    }

    static FASTDROP_INLINE Value infinity() {
        if constexpr (sizeof(Value) == 8) return bit_cast<double>(0x7FF0000000000000ull);
        else return bit_cast<float>(0x7F800000u);
    }

    FASTDROP_INLINE void draw_uniforms(const RowGroup& part, u32 (&uniform)[E]) const {
        const Key key = key_of(p);
        const Comparison purpose{p.threshold};
        const u64 step = p.row_groups.index_step;
        if (p.degenerate) {
#pragma unroll
            for (int e = 0; e < E; ++e) uniform[e] = 0;
        } else if (step == 1) {
            draw(key, mask_position(location.index + u64(part.first)), purpose, uniform);
        } else {
#pragma unroll
            for (int e = 0; e < E; ++e) {
                u32 own[1];
                draw(key, mask_position(location.index + u64(part.first + e) * step), purpose, own);
                uniform[e] = own[0];
            }
        }
    }

    // The gradient of the softmax: dy times the scale where kept, 0 where dropped.
    FASTDROP_INLINE void read_gradient(const RowGroup& part, Value (&g)[E]) const {
        u32 uniform[E];
        read(2, part, g);
        draw_uniforms(part, uniform);
#pragma unroll
        for (int e = 0; e < E; ++e)
            g[e] = uniform[e] >= p.threshold ? multiply(g[e], parameter<Value>(p, 0)) : Value(0);
    }

    FASTDROP_INLINE void accumulate() const {
        Sums<Value> mine = {-infinity(), 0, 0};
        if (exists()) {
#pragma unroll 1
            for (i64 slot = lane; slot * E - skipped < i64(p.length); slot += threads) {
                const RowGroup here = part(slot);
                Value x[E], g[E] = {};
                read_scores(here, x);
                if constexpr (BACKWARD) read_gradient(here, g);
                Sums<Value> next = {x[0], 0, 0};
#pragma unroll
                for (int e = 1; e < E; ++e)
                    next.largest = x[e] > next.largest ? x[e] : next.largest;
                // If x[0] is NaN, `largest` is NaN: replace it. If all are -infinity, avoid
                // inf - inf.
                if (!(next.largest > -infinity())) next.largest = -infinity();
                const Value top = next.largest > -infinity() ? next.largest : Value(0);
#pragma unroll
                for (int e = 0; e < E; ++e) {
                    const Value weight = exponential(x[e] - top);
                    next.sum += weight;
                    if constexpr (BACKWARD)
                        next.product += e >= here.from && e < here.to ? weight * g[e] : Value(0);
                }
                mine = merge(mine, next);
            }
        }
        all[threadIdx.x] = mine;
    }

    FASTDROP_INLINE void merge_threads() const {
        const int count = threads / FAN_IN;
        if (lane >= count) return;
        const Sums<Value>* first = all + row * threads + lane * FAN_IN;
        Sums<Value> so_far = first[0];
#pragma unroll 1
        for (int k = 1; k < FAN_IN; ++k) so_far = merge(so_far, first[k]);
        partial[row * count + lane] = so_far;
    }

    FASTDROP_INLINE void write() const {
        if (!exists()) return;
        const int count = threads / FAN_IN;
        Sums<Value> total = partial[row * count];
#pragma unroll 1
        for (int k = 1; k < count; ++k) total = merge(total, partial[row * count + k]);
        // The sum is 0 if all scores are -infinity; otherwise it is at least 1, or NaN.
        const bool nothing = total.sum == 0;
        const Value factor = (BACKWARD ? Value(1) : parameter<Value>(p, 0)) / total.sum;
        const Value mean = total.product / total.sum;
#pragma unroll 1
        for (i64 slot = lane; slot * E - skipped < i64(p.length); slot += threads) {
            const RowGroup here = part(slot);
            Value x[E], y[E], g[E];
            read_scores(here, x);
            u32 uniform[E], words[WORDS] = {};
            if constexpr (BACKWARD)
                read_gradient(here, g);
            else
                draw_uniforms(here, uniform);
#pragma unroll
            for (int e = 0; e < E; ++e) {
                const Value s = multiply(exponential(x[e] - total.largest), factor);
                if constexpr (BACKWARD)
                    y[e] = nothing ? Value(0) : multiply(s, g[e] - mean);
                else
                    y[e] = uniform[e] >= p.threshold && !nothing ? s : Value(0);
            }
            Storage::set(words, y);
            const u64 address = location.address[0] + u64(here.first * p.step[0]);
            if (here.to - here.from == E && p.width[0] != 0)
                store_group(address, words);
            else
                store_elements<Storage, E>(address, p.step[0], p.aligned[0], here.from, here.to,
                                           words);
        }
    }
};

template <class Storage, bool BACKWARD>
FASTDROP_INLINE void run_rows(const Argument<AXES<ANY>>& p) {
    using Kernel = Rows<Storage, BACKWARD>;
    __shared__ Sums<typename Storage::Value> all[THREADS], partial[THREADS / FAN_IN];
#ifdef __CUDA_ARCH__
    const Kernel rows(p, all, partial);
    rows.accumulate();
    __syncthreads();
    rows.merge_threads();
    __syncthreads();
    rows.write();
#else  // on the host, the last thread runs the phases of all threads
    if (threadIdx.x + 1 < THREADS) return;
    auto& thread = threadIdx.x;
    for (thread = 0; thread < THREADS; ++thread) Kernel(p, all, partial).accumulate();
    for (thread = 0; thread < THREADS; ++thread) Kernel(p, all, partial).merge_threads();
    for (thread = 0; thread < THREADS; ++thread) Kernel(p, all, partial).write();
    threadIdx.x = THREADS - 1;
#endif
}

}  // namespace fastdrop

#define FASTDROP_ROWS(NAME, STORAGE, BACKWARD)                                                \
    extern "C" __global__ void __launch_bounds__(fastdrop::THREADS, 2)                        \
        NAME(const __grid_constant__ fastdrop::Argument<fastdrop::AXES<fastdrop::ANY>> p) {   \
        fastdrop::run_rows<fastdrop::STORAGE, BACKWARD>(p);                                   \
    }
