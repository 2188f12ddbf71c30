// Masks that keep k elements of each row, and their positions: a team of threads for each row, a
// warp or a block. The k-th largest uniform is searched for by counting, as on the CPU (selection.py).
// Uniforms are held in registers if a thread has a few blocks of them, or drawn again.
//
// Arrays: the mask, k, the kept and dropped positions, the order that restores. Words: elements of a
// row, rows of a run, runs between two elements of a row, mask index step from an element of a row
// to the next, whether each row has its own k, whether positions are wanted.
//
// As in softmax.cuh, what happens between two exchanges is a function of one thread; on the host, the
// last thread of a team runs those of all.

namespace fastdrop {

#ifdef __CUDA_ARCH__
template <int LANES>
constexpr int OF_TEAM = 1;  // lanes that a caller runs
#else
template <int LANES>
constexpr int OF_TEAM = LANES;
#endif

// A number for each lane that a caller runs.
template <int LANES, class T>
struct PerLane {
    T of[OF_TEAM<LANES>];
};

template <int LANES, class Step>
FASTDROP_INLINE void each_lane(const Step& step) {
#ifdef __CUDA_ARCH__
    step(0, int(threadIdx.x) % LANES);
#else
    for (int t = 0; t < LANES; ++t) step(t, t);
#endif
}

// Combine the numbers of all lanes, in any order: each has the result. The combination of numbers
// must be one of theirs, or not depend on the order.
template <int LANES, class T, class Combine>
FASTDROP_INLINE T combined(PerLane<LANES, T> values, const Combine& combine) {
#ifdef __CUDA_ARCH__
    T value = values.of[0];
#pragma unroll
    for (int distance = 1; distance < WARP; distance *= 2)
        value = combine(value, __shfl_xor_sync(~0u, value, distance));
    if constexpr (LANES > WARP) {
        __shared__ T of_warp[LANES / WARP];
        __syncthreads();  // the last call's are read
        if (threadIdx.x % WARP == 0) of_warp[threadIdx.x / WARP] = value;
        __syncthreads();
        value = of_warp[0];
#pragma unroll
        for (int warp = 1; warp < LANES / WARP; ++warp) value = combine(value, of_warp[warp]);
    }
    return value;
#else
    T value = values.of[0];
    for (int t = 1; t < LANES; ++t) value = combine(value, values.of[t]);
    return value;
#endif
}

// Replace the numbers of all lanes by the sums of those of the lanes before; return the sum of all.
template <int LANES>
FASTDROP_INLINE u32 scanned(PerLane<LANES, u32>& values) {
#ifdef __CUDA_ARCH__
    const u32 own = values.of[0];
    const int lane = int(threadIdx.x) % WARP;
    u32 sum = own;
#pragma unroll
    for (int distance = 1; distance < WARP; distance *= 2) {
        const u32 other = __shfl_up_sync(~0u, sum, distance);
        if (lane >= distance) sum += other;
    }
    u32 all = __shfl_sync(~0u, sum, WARP - 1), before = 0;
    if constexpr (LANES > WARP) {
        __shared__ u32 of_warp[LANES / WARP];
        __syncthreads();
        if (lane == 0) of_warp[threadIdx.x / WARP] = all;
        __syncthreads();
        all = 0;
#pragma unroll
        for (int warp = 0; warp < LANES / WARP; ++warp) {
            if (warp < int(threadIdx.x) / WARP) before += of_warp[warp];
            all += of_warp[warp];
        }
    }
    values.of[0] = before + sum - own;
    return all;
#else
    u32 sum = 0;
    for (int t = 0; t < LANES; ++t) {
        const u32 own = values.of[t];
        values.of[t] = sum;
        sum += own;
    }
    return sum;
#endif
}

// Whether element a comes before another, b, of the same U: the larger draw comes first. Hardly ever
// called, so not inlined.
static __device__ __noinline__ bool outranks(u64 seed, u64 stream, u64 a, u64 b) {
    return precedes({seed, stream}, b, a, 1);
}

// A row. A lane has every LANES-th of its parts, which are blocks of elements; if HELD, so many.
// IS_LAST: the row lies along the last axis, so that parts are blocks of one Philox call.
template <int LANES, int HELD, bool IS_LAST>
struct KeptRow {
    static constexpr u64 NONE = ~0ull;
    Row row;
    u64 n, step, k;
    u32 skipped;  // elements of the first block that are in front of the row
    u64 parts;
    u32 held[OF_TEAM<LANES>][HELD ? HELD : 1][BLOCK];

    // Draw the uniforms of a part; those in front of the row or behind it are drawn too.
    FASTDROP_INLINE void draw_part(u64 part, u32 (&uniform)[BLOCK]) const {
        if constexpr (IS_LAST) {
            const u64 block = row.index / BLOCK + part;
            const Words high = block_bits(row.key, block, 0), low = block_bits(row.key, block, 1);
#pragma unroll
            for (int e = 0; e < BLOCK; ++e)
                uniform[e] = permute_bytes(low.word[e / 2], high.word[e / 2],
                                           e % 2 ? 0x7632 : 0x5410);
        } else {
#pragma unroll 1
            for (int e = 0; e < BLOCK; ++e) {
                const u32 one = uniform32(row.key, row.index + (part * BLOCK + u64(e)) * step);
#pragma unroll
                for (int f = 0; f < BLOCK; ++f) uniform[f] = f == e ? one : uniform[f];
            }
        }
    }

    FASTDROP_INLINE void begin() {
        skipped = IS_LAST ? u32(row.index) % BLOCK : 0;
        parts = (skipped + n + BLOCK - 1) / BLOCK;
        if constexpr (HELD > 0)
            each_lane<LANES>([&](int t, int lane) {
#pragma unroll
                for (int h = 0; h < HELD; ++h) {
                    u32 uniform[BLOCK] = {};
                    if (u64(h * LANES + lane) < parts) draw_part(u64(h * LANES + lane), uniform);
#pragma unroll
                    for (int e = 0; e < BLOCK; ++e) held[t][h][e] = uniform[e];
                }
            });
    }

    // Call ``visit(first, uniform)`` for a part, `first` being its first element, maybe in front of
    // the row.
    template <class Visit>
    FASTDROP_INLINE void each_part_drawn(int lane, const Visit& visit) const {
#pragma unroll 1
        for (u64 part = u64(lane); part < parts; part += LANES) {
            u32 uniform[BLOCK] = {};
            draw_part(part, uniform);
            visit(part * BLOCK - skipped, uniform);
        }
    }

    // Call ``visit(uniform)`` for a lane's elements.
    template <class Visit>
    FASTDROP_INLINE void each_uniform(int t, int lane, const Visit& visit) const {
        const auto each = [&](u64 first, const u32 (&uniform)[BLOCK]) {
#pragma unroll
            for (int e = 0; e < BLOCK; ++e)
                if (first + u64(e) < n) visit(uniform[e]);
        };
        if constexpr (HELD > 0) {
#pragma unroll
            for (int h = 0; h < HELD; ++h) each(u64(h * LANES + lane) * BLOCK - skipped, held[t][h]);
        } else {
            each_part_drawn(lane, each);
        }
    }

    FASTDROP_INLINE u64 count(u64 threshold) const {
        PerLane<LANES, u32> counts = {};
        each_lane<LANES>([&](int t, int lane) {
            each_uniform(t, lane, [&](u32 u) { counts.of[t] += u >= threshold; });
        });
        return combined<LANES>(counts, [](u32 a, u32 b) { return a + b; });
    }

    // The least uniform that reaches a threshold; or the largest that does not.
    FASTDROP_INLINE u64 nearest(u64 threshold, bool above) const {
        const u32 flip = above ? 0 : ~0u;
        PerLane<LANES, u32> least;
        each_lane<LANES>([&](int t, int lane) {
            least.of[t] = ~0u;
            each_uniform(t, lane, [&](u32 u) {
                if ((u >= threshold) == above && (u ^ flip) < least.of[t]) least.of[t] = u ^ flip;
            });
        });
        return combined<LANES>(least, [](u32 a, u32 b) { return a < b ? a : b; }) ^ flip;
    }

    // Whether element j, or mask index `at`, comes before another of the same U.
    FASTDROP_INLINE u64 index_of(u64 j) const { return row.index + j * step; }
    FASTDROP_INLINE bool before(u64 a, u64 b) const {
        return outranks(row.key.seed, row.key.stream, a, b);
    }

    // The best of the elements that tie, among those behind `previous`, as mask indices.
    FASTDROP_INLINE u64 best_of_tie(u64 tie, u64 previous) const {
        const auto better = [&](u64 a, u64 b) {
            if (a == NONE || a == b) return b;
            return b == NONE || before(a, b) ? a : b;
        };
        PerLane<LANES, u64> best;
        each_lane<LANES>([&](int t, int lane) {
            best.of[t] = NONE;
            each_part_drawn(lane, [&](u64 first, const u32 (&uniform)[BLOCK]) {
                u32 ties = 0;
#pragma unroll
                for (int e = 0; e < BLOCK; ++e)
                    if (first + u64(e) < n && uniform[e] == tie) ties |= 1u << e;
#pragma unroll 1
                for (u64 j = first; ties != 0; ties >>= 1, ++j) {
                    const u64 at = index_of(j);
                    if (!(ties & 1) || at == previous) continue;
                    if (previous == NONE || before(previous, at))
                        best.of[t] = better(best.of[t], at);
                }
            });
        });
        return combined<LANES>(best, better);
    }

    // What is kept: uniforms that are at least the threshold; and where they equal the tie, the
    // element `last` and those before it in rank.
    struct Choice {
        u64 threshold, tie, last;
    };

    FASTDROP_INLINE Choice search() const {
        const u64 none = 1ull << 32;
        if (k == 0 || k == n) return {k ? 0 : none, NONE, NONE};
        u64 low = 0, high = none;  // more than k uniforms reach `low`, and fewer `high`
        u64 counted = 0;           // those that reach `high`
        const u64 distance = none / n;
        u64 threshold = (n - k) * distance;
#pragma unroll 1
        for (int steps = 1;; ++steps) {
            if (threshold <= low) threshold = low + 1;
            if (threshold >= high) threshold = high - 1;
            const u64 found = count(threshold);
            if (found == k) return {threshold, NONE, NONE};
            if (found > k) {
                low = threshold;
            } else {
                high = threshold;
                counted = found;
            }
            if (high - low == 1) break;
            if (found == k + 1 || found + 1 == k) {
                threshold = nearest(threshold, found > k) + (found > k);
            } else if (steps > 12) {
                threshold = low + (high - low) / 2;
            } else if (found > k) {
                threshold += (found - k) * distance;
            } else {
                const u64 less = (k - found) * distance;
                threshold = threshold > less ? threshold - less : 0;
            }
        }
        u64 last = NONE;
        for (; counted < k; ++counted) last = best_of_tie(low, last);
        return {high, low, last};
    }

    // Which elements of a part are kept, a bit for each; those that do not exist are not.
    FASTDROP_INLINE u32 kept_of(const Choice& choice, u64 first,
                                const u32 (&uniform)[BLOCK]) const {
        u32 bits = 0, ties = 0;
#pragma unroll
        for (int e = 0; e < BLOCK; ++e) {
            if (first + u64(e) >= n) continue;
            if (uniform[e] >= choice.threshold) bits |= 1u << e;
            if (uniform[e] == choice.tie) ties |= 1u << e;
        }
#pragma unroll 1
        for (int e = 0; ties >> e != 0; ++e) {
            const u64 at = index_of(first + u64(e));
            if (ties >> e & 1 && (at == choice.last || before(at, choice.last))) bits |= 1u << e;
        }
        return bits;
    }
};

template <int LANES, int HELD, bool IS_LAST>
FASTDROP_INLINE void keep_k(const Batch& b) {
    const u64 number = thread_number() / LANES, rows = b.word[1], runs = b.word[2];
    const u64 run = number / rows, within = number % rows;
    if (run >= b.rows) return;
#ifndef __CUDA_ARCH__
    if (threadIdx.x % LANES + 1 < LANES) return;  // the last thread runs all
#endif
    KeptRow<LANES, HELD, IS_LAST> r;
    r.n = b.word[0];
    r.step = b.word[3];
    r.row = row_of(b, run);
    r.row.index += IS_LAST ? within * r.n : within;
    // Of the array: elements between two of the row, the row's number, and its outer part.
    const u64 stride = IS_LAST ? 1 : runs * rows;
    const u64 outer = IS_LAST ? number : run / runs;
    const u64 inner = IS_LAST ? 0 : run % runs * rows + within;
    const u64 row_number = IS_LAST ? number : outer * stride + inner;
    r.k = array_at<const u64>(b, 1)[b.word[4] ? row_number : 0];
    r.begin();
    const auto choice = r.search();
    u8* const mask = array_at<u8>(b, 0) + (outer * r.n * stride + inner);
    const bool has_order = b.word[5] != 0;
    u64* const kept = array_at<u64>(b, 2) + (outer * r.k * stride + inner);
    u64* const dropped = array_at<u64>(b, 3) + (outer * (r.n - r.k) * stride + inner);
    u64* const restore = array_at<u64>(b, 4) + (outer * r.n * stride + inner);
    u64 before = 0;  // kept elements of the parts before
    const u64 turns = (r.parts + LANES - 1) / LANES;
    for (u64 turn = 0; turn < turns; ++turn) {
        PerLane<LANES, u32> all_bits = {}, counts = {};
        each_lane<LANES>([&](int t, int lane) {
            const u64 part = turn * LANES + u64(lane), first = part * BLOCK - r.skipped;
            if (part >= r.parts) return;
            u32 uniform[BLOCK] = {};
            r.draw_part(part, uniform);
            const u32 bits = r.kept_of(choice, first, uniform);
#pragma unroll
            for (int e = 0; e < BLOCK; ++e) {
                const u64 j = first + u64(e);
                if (j >= r.n) continue;
                mask[j * stride] = bits >> e & 1;
                counts.of[t] += bits >> e & 1;
            }
            all_bits.of[t] = bits;
        });
        if (!has_order) continue;
        const u32 all = scanned<LANES>(counts);
        each_lane<LANES>([&](int t, int lane) {
            const u64 part = turn * LANES + u64(lane), first = part * BLOCK - r.skipped;
            if (part >= r.parts) return;
            u64 place = before + counts.of[t];
#pragma unroll
            for (int e = 0; e < BLOCK; ++e) {
                const u64 j = first + u64(e);
                if (j >= r.n) continue;
                const bool is_kept = all_bits.of[t] >> e & 1;
                const u64 other = j - place;  // place among the dropped ones
                (is_kept ? kept : dropped)[(is_kept ? place : other) * stride] = j;
                restore[j * stride] = is_kept ? place : r.k + other;
                place += is_kept;
            }
        });
        before += all;
    }
}

}  // namespace fastdrop
