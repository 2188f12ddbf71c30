// Softmax and dropout: kernels over rows, along the axis that a softmax adds up to 1 along.
//
// A few threads share a row; a block has a whole number of rows. Each thread goes over its part of
// the row twice. First it finds the largest score and, relative to it, the sum of exponentials
// (M. Milakov and N. Gimelshein, "Online normalizer calculation for softmax", 2018); these are put
// together in shared memory, always in the same order. Then it reads its scores again, which by now
// are in the cache, and writes. Nothing is rounded to the storage type in between.
//
// The work between two barriers is a function of the thread's number alone, a phase, so that a
// block can also be run one thread after another.

namespace fastdrop {

constexpr int FAN_IN = 16;  // sums that one thread puts together

// What is known of some of a row: the largest score, the sum of exp(x - largest), and that of its
// products with the gradient that comes through.
template <class Value>
struct Sums {
    Value largest, sum, product;
};

template <class Value>
FASTDROP_INLINE Sums<Value> joined(const Sums<Value>& a, const Sums<Value>& b) {
    const Value top = a.largest > b.largest ? a.largest : b.largest;
    // No differences of infinities.
    const Value first = a.largest == top ? Value(1) : exponential(a.largest - top);
    const Value second = b.largest == top ? Value(1) : exponential(b.largest - top);
    return {top, a.sum * first + b.sum * second, a.product * first + b.product * second};
}

// E neighbours of a row: the place of the first in the row, and which of them there are.
struct Part {
    i64 first;
    int from, to;
};

// y is the operand 0, x the operand 1 and, in the backward, dy the operand 2.
//
// Of its Params, `groups` counts the rows, `length` and `step` are those of a row, `width[0]` is not 0
// where y is written in groups, `slots.length` is the number of threads that share a row, and
// `slots.index_step` the step through the mask along it. The axes are those around the rows.
template <class Storage_, bool BACKWARD>
struct Rows {
    using Storage = Storage_;
    using Value = typename Storage::Value;
    using Settings = Argument<AXES<ANY>>;
    static constexpr int N = BACKWARD ? 2 : 1, E = Storage::GROUP, WORDS = WORDS_OF<Storage, E>;

    const Settings& p;
    Sums<Value>* all;  // of every thread of the block
    Sums<Value>* few;  // of FAN_IN threads each
    int threads, lane, row;  // of a row; this one's number among them; the row's in the block
    u64 number;        // of the row
    Place<N> place;
    int behind;        // elements of part 0 that are in front of the row

    FASTDROP_INLINE Rows(const Settings& settings, Sums<Value>* sums, Sums<Value>* fewer)
        : p(settings), all(sums), few(fewer), threads(int(p.slots.length)),
          lane(int(threadIdx.x) % threads), row(int(threadIdx.x) / threads),
          number(u64(blockIdx.x) * u64(THREADS / threads) + u64(row)) {
        place.begin(p);
        if (p.axes == 1)  // as it mostly is: then there is nothing to divide
            place.move(number, p.axis[0]);
        else
            place.move_to(number, p, 0);
        behind = p.width[0] != 0 ? Storage::elements_behind(place.address[0]) : 0;
    }

    FASTDROP_INLINE bool exists() const { return number < p.groups; }

    FASTDROP_INLINE Part part(i64 slot) const {
        const i64 first = slot * E - behind, left = i64(p.length) - first;
        return {first, first < 0 ? behind : 0, left < E ? int(left) : E};
    }

    FASTDROP_INLINE void read(int operand, const Part& part, Value (&values)[E]) const {
        u32 words[WORDS] = {};
        const u64 address = place.address[operand] + u64(part.first * p.step[operand]);
        if (part.to - part.from == E && p.width[operand] != 0)
            load_group(address, p.width[operand], words);
        else
            load_elements<Storage, E>(address, p.step[operand], p.whole[operand], part.from,
                                      part.to, words);
#pragma unroll
        for (int e = 0; e < E; ++e) values[e] = Storage::get(words, e);
    }

    // Scores; what there is not has no weight.
    FASTDROP_INLINE void read_scores(const Part& part, Value (&values)[E]) const {
        read(1, part, values);
#pragma unroll
        for (int e = 0; e < E; ++e)
            values[e] = e >= part.from && e < part.to ? values[e] : -infinity();
    }

    static FASTDROP_INLINE Value infinity() {
        if constexpr (sizeof(Value) == 8) return cast<double>(0x7FF0000000000000ull);
        else return cast<float>(0x7F800000u);
    }

    FASTDROP_INLINE void draw_noise(const Part& part, u32 (&noise)[E]) const {
        const Key key = key_of(p);
        const Against purpose{p.threshold};
        const u64 step = p.slots.index_step;
        if (p.degenerate) {
#pragma unroll
            for (int e = 0; e < E; ++e) noise[e] = 0;
        } else if (step == 1) {
            draw(key, site_of(place.index + u64(part.first)), purpose, noise);
        } else {
#pragma unroll
            for (int e = 0; e < E; ++e) {
                u32 own[1];
                draw(key, site_of(place.index + u64(part.first + e) * step), purpose, own);
                noise[e] = own[0];
            }
        }
    }

    // The gradient that dropout lets through.
    FASTDROP_INLINE void read_gradient(const Part& part, Value (&g)[E]) const {
        u32 noise[E];
        read(2, part, g);
        draw_noise(part, noise);
#pragma unroll
        for (int e = 0; e < E; ++e)
            g[e] = noise[e] >= p.threshold ? times(g[e], parameter<Value>(p, 0)) : Value(0);
    }

    FASTDROP_INLINE void gather() const {
        Sums<Value> mine = {-infinity(), 0, 0};
        if (exists()) {
#pragma unroll 1
            for (i64 slot = lane; slot * E - behind < i64(p.length); slot += threads) {
                const Part here = part(slot);
                Value x[E], g[E] = {};
                read_scores(here, x);
                if constexpr (BACKWARD) read_gradient(here, g);
                Sums<Value> next = {x[0], 0, 0};
#pragma unroll
                for (int e = 1; e < E; ++e) next.largest = x[e] > next.largest ? x[e] : next.largest;
                // A NaN is never larger, and one in front is. Of nothing but -infinity all is 0.
                if (!(next.largest > -infinity())) next.largest = -infinity();
                const Value top = next.largest > -infinity() ? next.largest : Value(0);
#pragma unroll
                for (int e = 0; e < E; ++e) {
                    const Value weight = exponential(x[e] - top);
                    next.sum += weight;
                    if constexpr (BACKWARD)
                        next.product += e >= here.from && e < here.to ? weight * g[e] : Value(0);
                }
                mine = joined(mine, next);
            }
        }
        all[threadIdx.x] = mine;
    }

    FASTDROP_INLINE void put_together() const {
        const int count = threads / FAN_IN;
        if (lane >= count) return;
        const Sums<Value>* first = all + row * threads + lane * FAN_IN;
        Sums<Value> so_far = first[0];
#pragma unroll 1
        for (int k = 1; k < FAN_IN; ++k) so_far = joined(so_far, first[k]);
        few[row * count + lane] = so_far;
    }

    FASTDROP_INLINE void finish() const {
        if (!exists()) return;
        const int count = threads / FAN_IN;
        Sums<Value> total = few[row * count];
#pragma unroll 1
        for (int k = 1; k < count; ++k) total = joined(total, few[row * count + k]);
        // Scores of -infinity alone: all is 0. Otherwise the sum is at least 1, or NaN.
        const bool nothing = total.sum == 0;
        const Value factor = (BACKWARD ? Value(1) : parameter<Value>(p, 0)) / total.sum;
        const Value mean = total.product / total.sum;
#pragma unroll 1
        for (i64 slot = lane; slot * E - behind < i64(p.length); slot += threads) {
            const Part here = part(slot);
            Value x[E], y[E], g[E];
            read_scores(here, x);
            u32 noise[E], words[WORDS] = {};
            if constexpr (BACKWARD)
                read_gradient(here, g);
            else
                draw_noise(here, noise);
#pragma unroll
            for (int e = 0; e < E; ++e) {
                const Value s = times(exponential(x[e] - total.largest), factor);
                if constexpr (BACKWARD)
                    y[e] = nothing ? Value(0) : times(s, g[e] - mean);
                else
                    y[e] = noise[e] >= p.threshold && !nothing ? s : Value(0);
            }
            Storage::set(words, y);
            const u64 address = place.address[0] + u64(here.first * p.step[0]);
            if (here.to - here.from == E && p.width[0] != 0)
                store_group(address, words);
            else
                store_elements<Storage, E>(address, p.step[0], p.whole[0], here.from, here.to,
                                           words);
        }
    }
};

template <class Storage, bool BACKWARD>
FASTDROP_INLINE void run_rows(const Argument<AXES<ANY>>& p) {
    using Treated = Rows<Storage, BACKWARD>;
    __shared__ Sums<typename Storage::Value> all[THREADS], few[THREADS / FAN_IN];
#ifdef __CUDA_ARCH__
    const Treated rows(p, all, few);
    rows.gather();
    __syncthreads();
    rows.put_together();
    __syncthreads();
    rows.finish();
#else  // the last thread stands in for all of them
    if (threadIdx.x + 1 < THREADS) return;
    for (threadIdx.x = 0; threadIdx.x < THREADS; ++threadIdx.x) Treated(p, all, few).gather();
    for (threadIdx.x = 0; threadIdx.x < THREADS; ++threadIdx.x) Treated(p, all, few).put_together();
    for (threadIdx.x = 0; threadIdx.x < THREADS; ++threadIdx.x) Treated(p, all, few).finish();
    threadIdx.x = THREADS - 1;
#endif
}

}  // namespace fastdrop

#define FASTDROP_ROWS_KERNEL(NAME, STORAGE, BACKWARD)                                         \
    extern "C" __global__ void __launch_bounds__(fastdrop::THREADS, 2)                        \
        NAME(const __grid_constant__ fastdrop::Argument<fastdrop::AXES<fastdrop::ANY>> p) {   \
        fastdrop::run_rows<fastdrop::STORAGE, BACKWARD>(p);                                   \
    }

#define FASTDROP_ROWS(NAME, STORAGE)                                                          \
    FASTDROP_ROWS_KERNEL(NAME, STORAGE, false)                                                \
    FASTDROP_ROWS_KERNEL(NAME##_backward, STORAGE, true)
