// The kernels: the schedules that do more than one group per thread, and the entry points.

namespace fastdrop {

// Minimal number of blocks per multiprocessor for __launch_bounds__; 0 leaves it to the compiler,
// which would spill registers of kernels with many loads.
template <Schedule SCHEDULE, class Operation>
constexpr int MIN_BLOCKS =
    OPERANDS<Operation> > 1     ? (SCHEDULE == CONTIGUOUS || SCHEDULE == TRANSPOSED ? 2 : 3)
    : Operation::UNIFORMS >= EXACT ? (SCHEDULE == CONTIGUOUS ? 3 : 0)
    : Operation::UNIFORMS == COMPARE_OWN && SCHEDULE == TRANSPOSED ? 2
                                : 0;

// The schedule CONTIGUOUS, for operations that need uniforms. A thread has K groups in flight: it
// loads all before it draws. They are THREADS groups apart, so that accesses of adjacent threads
// coalesce.
template <class Operation, class Index, int K>
FASTDROP_INLINE void run_contiguous_by_uniforms(const Argument<AXES<CONTIGUOUS>>& p) {
    using Storage = typename Operation::Storage;
    constexpr int E = GROUP<CONTIGUOUS, Storage>, DISTANCE = THREADS * E;
    static_assert(DISTANCE % BLOCK == 0, "groups of a thread have one phase");
    const Index number = Index(blockIdx.x) * (THREADS * K) + threadIdx.x;
    const i64 first = i64(number) * E - Storage::misalignment(p.address[0]);
    if (first < 0 || first + (K - 1) * DISTANCE + E > i64(p.length)) {  // some groups are partial
#pragma unroll 1
        for (int k = 0; k < K; ++k) {
            const Index mine = number + Index(k * THREADS);
            if (mine < Index(p.groups)) run_group<Operation, CONTIGUOUS>(mine, p);
        }
        return;
    }
    Loaded<E, K, typename Operation::Operands> x;
    each_operand(x, [&](int i, auto storage, auto& words) {
        const u64 address = p.address[1 + i] + u64(decltype(storage)::bytes(first));
        load_groups(address, decltype(storage)::bytes(DISTANCE), p.width[1 + i], words);
    });
    const Key key = key_of(p);
    const MaskPosition position = mask_position(p.index + u64(first));
    const u64 address = p.address[0] + u64(Storage::bytes(first));
#pragma unroll
    for (int k = 0; k < K; ++k) {
        u32 uniform[E], y[WORDS_OF<Storage, E>];
        draw(key, {position.block + u64(k * (DISTANCE / BLOCK)), position.phase},
             purpose_of<Operation>(p, x, k), uniform);
        apply<Operation>(uniform, x, k, y, p);
        store_group(address + u64(k * Storage::bytes(DISTANCE)), y);
    }
}

// Keeps the compiler from computing an address again where it is used, by 8 instructions.
FASTDROP_INLINE void computed_once(u64& address) {
#ifdef __CUDA_ARCH__
    asm volatile("" : "+l"(address));
#else
    (void)address;
#endif
}

// The same for operations that compare with the launch's threshold. A warp has K rows of groups,
// which are adjacent in memory, and decides for all at once. launch.py knows how many groups that
// is.
template <class Operation, class Index, int K>
FASTDROP_INLINE void run_contiguous(const Argument<AXES<CONTIGUOUS>>& p) {
    using Storage = typename Operation::Storage;
    constexpr int E = GROUP<CONTIGUOUS, Storage>, ROW = WARP * E;
    using Decisions = WarpDecisions<E, K>;
    const u32 lane = threadIdx.x % WARP, skipped = Storage::misalignment(p.address[0]);
    // Where groups are parts of blocks, there are empty ones before the first, as many as let all
    // warps begin in the first group of a block.
    const u32 begin = u32(p.index) - skipped, empty = E < BLOCK ? begin % BLOCK / E : 0;
    const u32 phase = begin % (E < BLOCK ? E : BLOCK);
    const u32 open = phase != 0 ? Decisions::OPEN : 0;
    const Index warp = Index(blockIdx.x) * (THREADS / WARP) + threadIdx.x / WARP;
    const Index number = warp * (WARP * K - open);                 // of the warp's first group
    const i64 first = i64(number) * E - i64(skipped + empty * E);  // and element
    if (first >= i64(p.length)) return;
    const i64 mine = first + i64(lane * E);
    u64 address = p.address[0] + u64(Storage::bytes(mine));
    computed_once(address);
    const bool complete = first >= 0 && first + K * ROW <= i64(p.length);
    Loaded<E, K, typename Operation::Operands> x;
    if (complete) {
        each_operand(x, [&](int i, auto storage, auto& words) {
            const u64 from = p.address[1 + i] + u64(decltype(storage)::bytes(mine));
            load_groups(from, decltype(storage)::bytes(ROW), p.width[1 + i], words);
        });
    }
    const u64 block = mask_position(p.index + u64(first)).block;
    const Decisions decisions(key_of(p), block, phase, p.threshold);
    const bool in_last_row = lane < WARP - open;
    if (complete) {
#pragma unroll
        for (int k = 0; k < K; ++k) {
            u32 y[WORDS_OF<Storage, E>];
            apply_by_bits<Operation, E>(decisions.kept(k), Decisions::bit_of(k), x, k, y, p);
            if (k + 1 < K || in_last_row) store_group(address + u64(k * Storage::bytes(ROW)), y);
        }
        return;
    }
    u32 kept[K];  // shifted from row to row, because registers cannot be indexed
#pragma unroll
    for (int k = 0; k < K; ++k) kept[k] = decisions.kept(k) >> Decisions::bit_of(k);
#pragma unroll 1
    for (int k = 0; k < K; ++k) {
        const Index its_number = number + Index(k * WARP + lane) - Index(empty);
        const auto group = locate_group<Operation, CONTIGUOUS>(its_number, p);
        const bool exists = its_number < Index(p.groups) && group.from < group.to;
        if (exists && (k + 1 < K || in_last_row)) {
            const bool at_once = group.to - group.from == E;
            Loaded<E, 1, typename Operation::Operands> its = {};
            u32 y[WORDS_OF<Storage, E>];
            load_operands<Operation, CONTIGUOUS>(group, at_once, p, its);
            apply_by_bits<Operation, E>(kept[0], 0, its, 0, y, p);
            store_results<Storage, CONTIGUOUS, E>(group, at_once, p, y);
        }
#pragma unroll
        for (int next = 1; next < K; ++next) kept[next - 1] = kept[next];
    }
}

template <class Operation, class Index>
FASTDROP_INLINE void run_any(const Argument<AXES<ANY>>& p) {
    using Storage = typename Operation::Storage;
    constexpr int E = GROUP<ANY, Storage>;
    const Index number = Index(blockIdx.x) * THREADS + threadIdx.x;
    if (number >= Index(p.groups)) return;
    const Key key = key_of(p);
    const u64 left = p.length - u64(number) * E;
    u32 uniform[E] = {}, y[WORDS_OF<Storage, E>];
    Loaded<E, 1, typename Operation::Operands> x = {};
    u64 address = p.address[0] + u64(number);
#pragma unroll 1
    for (int e = 0; e < E; ++e) {
        if (u64(e) >= left) break;
        Location<OPERANDS<Operation>> location;
        location.begin(p);
        location.move_to(number * E + Index(e), p, 0);
        u32 own[1] = {};
        if (!p.degenerate) draw(key, mask_position(location.index), purpose_of<Operation>(p), own);
        if constexpr (E == 1) {
            address = location.address[0];
            if (Operation::reads(own[0] >= p.threshold)) {
                each_operand(x, [&](int i, auto storage, auto& words) {
                    load_elements<decltype(storage), 1>(location.address[1 + i], 0,
                                                        p.aligned[1 + i], 0, 1, words[0]);
                });
            }
        }
#pragma unroll
        for (int o = 0; o < E; ++o) uniform[o] = o == e ? own[0] : uniform[o];
    }
    apply<Operation>(uniform, x, 0, y, p);
    store_elements<Storage, E>(address, 0, p.aligned[0], 0, left < E ? int(left) : E, y);
}

template <class Operation, Schedule SCHEDULE, class Index, int IN_FLIGHT>
FASTDROP_INLINE void run(const Argument<AXES<SCHEDULE>>& p) {
    if constexpr (SCHEDULE == CONTIGUOUS) {
        // What loads nothing has twice as many groups, which share what a thread does once.
        constexpr int K = (OPERANDS<Operation> == 0 ? 2 : 1) * IN_FLIGHT;
        if constexpr (Operation::UNIFORMS == COMPARE_COMMON) run_contiguous<Operation, Index, K>(p);
        else run_contiguous_by_uniforms<Operation, Index, K>(p);
    } else if constexpr (SCHEDULE == ANY) {
        run_any<Operation, Index>(p);
    } else {
        const Index number = Index(blockIdx.x) * THREADS + threadIdx.x;
        if (number < Index(p.groups)) run_group<Operation, SCHEDULE>(number, p);
    }
}

}  // namespace fastdrop

// Entry points, extern "C": CuPy would have to compile to look up the mangled names of templates,
// and would not use its disk cache. The operation is the last macro argument, for it may contain
// commas.
#define FASTDROP_KERNEL(NAME, SCHEDULE, INDEX, IN_FLIGHT, ...)                                \
    extern "C" __global__ void                                                            \
        __launch_bounds__(fastdrop::THREADS,                                              \
                          (fastdrop::MIN_BLOCKS<fastdrop::SCHEDULE, __VA_ARGS__>))          \
        NAME(const __grid_constant__ fastdrop::Argument<fastdrop::AXES<fastdrop::SCHEDULE>> p) { \
        fastdrop::run<__VA_ARGS__, fastdrop::SCHEDULE, INDEX, IN_FLIGHT>(p);                  \
    }

// Add 1 to the stream of a key in device memory.
#define FASTDROP_ADVANCE(NAME)                                                            \
    extern "C" __global__ void NAME(fastdrop::Key* key) { key->stream += 1; }
