// The kernel bodies: bits, decide, apply. A thread treats groups of E neighbours along one axis, the
// inner one; what the groups are is the form of a launch:
//
//   LINE   index step 1, y contiguous: rows of a box, or all of a contiguous array
//   RUNS   index step 0, y contiguous: a decision for a whole run, and what is dropped is not read
//   PANEL  index step 1, y not contiguous, as in Fortran order: threads side by side go along the
//          axis that is contiguous in memory, and each takes a Philox block across it
//   ANY    every element has coordinates of its own: for all other layouts, right and not fast
//
// Groups of LINE and RUNS are aligned to 16 bytes of y, so that they are written at once; the first
// and the last of a row may be partial, and go element by element in the same kernel.

namespace fastdrop {

enum Form { LINE, RUNS, PANEL, ANY };

// Axes around what a thread treats, at most. CuPy's arrays have 25 or fewer.
template <Form FORM>
constexpr int AXES = FORM == ANY ? FASTDROP_MOST_AXES : FASTDROP_AXES;

constexpr int THREADS = FASTDROP_THREADS;  // of a CUDA block; modules.py sets what is in capitals

// Groups that a thread has in flight: it loads them all, and then draws. They are a block's threads
// apart, so that neighbouring threads access neighbouring memory.
template <Form FORM>
constexpr int IN_FLIGHT = FORM == LINE ? FASTDROP_IN_FLIGHT : 1;

template <Form FORM, class Storage>
constexpr int GROUP = FORM == PANEL ? BLOCK : FORM == ANY ? Storage::TOGETHER : Storage::GROUP;

FASTDROP_INLINE u32 upper_product(u32 a, u32 b) { return u32(u64(a) * b >> 32); }

// n / axis.length. In 32 bits by a product: T. Granlund and P. Montgomery, "Division by invariant
// integers using multiplication", PLDI 1994; n is below 2**31.
FASTDROP_INLINE u32 divided(u32 n, const Axis& axis) {
    return (upper_product(n, axis.magic) + n) >> axis.shift;
}
FASTDROP_INLINE u64 divided(u64 n, const Axis& axis) { return n / axis.length; }

// Where something lies: in memory (y first), and in the mask.
template <int N>
struct Place {
    u64 address[1 + N];
    u64 index;

    FASTDROP_INLINE void begin(const Params& p) {
#pragma unroll
        for (int i = 0; i <= N; ++i) address[i] = p.address[i];
        index = p.index;
    }
    FASTDROP_INLINE void move(u64 along, const Axis& axis) {
#pragma unroll
        for (int i = 0; i <= N; ++i) address[i] += along * u64(axis.step[i]);
        index += along * axis.index_step;
    }
    // Move to an element of the axes from `first` on, counted with the first one fastest.
    template <class Index, int AXES>
    FASTDROP_INLINE void move_to(Index element, const Argument<AXES>& p, u32 first) {
        for (u32 i = first; i < p.axes; ++i) {
            const Index rest = divided(element, p.axis[i]);
            move(element - rest * Index(p.axis[i].length), p.axis[i]);
            element = rest;
        }
    }
};

// A group: the place of its first element, and which of its E elements there are.
template <int N>
struct Group {
    Place<N> place;
    int from, to;
};

template <class Operation, Form FORM, class Index>
FASTDROP_INLINE Group<Operation::OPERANDS> located(Index number,
                                                     const Argument<AXES<FORM>>& p) {
    using Storage = typename Operation::Storage;
    constexpr int N = Operation::OPERANDS, E = GROUP<FORM, Storage>;
    Group<N> group;
    Place<N>& place = group.place;
    place.begin(p);
    Index slot = number;
    int behind;  // elements of group 0 that are in front of the row
    if constexpr (FORM == PANEL) {
        const Index rest = divided(number, p.axis[0]);
        const Index outer = divided(rest, p.slots);
        slot = rest - outer * Index(p.slots.length);
        place.move_to(outer, p, 1);
        behind = int(place.index % BLOCK);  // a group is a block, where rows begin like the first
        place.move(number - rest * Index(p.axis[0].length), p.axis[0]);
    } else {
        if (p.axes != 0) {
            const Index outer = divided(number, p.slots);
            slot = number - outer * Index(p.slots.length);
            place.move_to(outer, p, 0);
        }
        behind = p.whole[0] ? Storage::elements_behind(place.address[0]) : 0;
    }
    const i64 first = i64(slot) * E - behind, left = i64(p.length) - first;
    group.from = first < 0 ? behind : 0;
    group.to = left < E ? int(left) : E;  // below `from` where nothing is left
#pragma unroll
    for (int i = 0; i <= N; ++i) {
        // A constant step, where it can be, makes this one instruction.
        const bool contiguous = FORM != PANEL && (i == 0 || p.width[i] != 0);
        place.address[i] += u64(contiguous ? Storage::bytes(first) : first * p.step[i]);
    }
    if constexpr (FORM != RUNS) place.index += u64(first);
    return group;
}

FASTDROP_INLINE Key key_of(const Params& p) {
    if (p.key != 0) {  // a captured graph draws a new mask when what lies there has changed
        const u64* key = reinterpret_cast<const u64*>(p.key);
        return {key[0], key[1]};
    }
    return {p.seed, p.stream};
}

template <class Operation, int E, int WORDS>
FASTDROP_INLINE void apply(const u32 (&noise)[E], const u32 (*x)[WORDS], u32 (&y)[WORDS],
                           const Params& p) {
    using Value = typename Operation::Value;
    Value values[E];
#pragma unroll
    for (int e = 0; e < E; ++e) {
        Value operands[Operation::OPERANDS + (Operation::OPERANDS == 0)] = {};
        if constexpr (Operation::OPERANDS != 0) {
#pragma unroll
            for (int i = 0; i < Operation::OPERANDS; ++i)
                operands[i] = Operation::Storage::get(x[i], e);
        }
        values[e] = Operation::apply(noise[e], operands, p);
    }
#pragma unroll
    for (int w = 0; w < WORDS; ++w) y[w] = 0;
    Operation::Storage::set(y, values);
}

// Elements one by one: each at a step from the one before.
template <class Storage, int E, int WORDS>
FASTDROP_INLINE void load_elements(u64 address, i64 step, bool whole, int from, int to,
                                   u32 (&words)[WORDS]) {
#pragma unroll
    for (int e = 0; e < E; ++e)
        if (e >= from && e < to)
            put<Storage::SIZE>(words, e, load<Storage::SIZE>(address + u64(e * step), whole));
}

template <class Storage, int E, int WORDS>
FASTDROP_INLINE void store_elements(u64 address, i64 step, bool whole, int from, int to,
                                    u32 (&words)[WORDS]) {
    if constexpr (Storage::TOGETHER != 1) {  // the bits of a byte that are not there are zeros
        if (to < E) words[0] &= (1u << to) - 1;
    }
#pragma unroll
    for (int e = 0; e < E; e += Storage::TOGETHER)
        if (e >= from && e < to)
            store<Storage::SIZE>(address + u64(e / Storage::TOGETHER * step),
                                 taken<Storage::SIZE>(words, e / Storage::TOGETHER), whole);
}

// LINE, RUNS and PANEL.
template <class Operation, Form FORM, class Index>
FASTDROP_INLINE void treat_groups(const Argument<AXES<FORM>>& p) {
    using Storage = typename Operation::Storage;
    constexpr int N = Operation::OPERANDS, E = GROUP<FORM, Storage>, K = IN_FLIGHT<FORM>;
    constexpr int WORDS = (E * Storage::SIZE / Storage::TOGETHER + 3) / 4;

    Group<N> group[K];
    bool at_once[K];
    u32 x[K][N + (N == 0)][WORDS] = {};
    u32 noise[E];
    const Key key = key_of(p);
    const Index first = Index(blockIdx.x) * (THREADS * K) + threadIdx.x;
#pragma unroll
    for (int k = 0; k < K; ++k) {
        const Index number = first + Index(k * THREADS);
        if (number < Index(p.groups)) group[k] = located<Operation, FORM>(number, p);
        else group[k].from = group[k].to = 0;
        const auto& [place, from, to] = group[k];
        if (from >= to) continue;
        at_once[k] = FORM != PANEL && p.whole[0] && to - from == E;
        if constexpr (FORM == RUNS) {
            static_assert(K == 1, "the noise is that of one group");
            u32 shared[1] = {};
            if (!p.certain) draw<1, Operation::EXACT>(key, place.index, p.threshold, shared);
#pragma unroll
            for (int e = 0; e < E; ++e) noise[e] = shared[0];
            if (!Operation::reads(noise[0] >= p.threshold)) continue;
        }
#pragma unroll
        for (int i = 0; i < N; ++i) {
            const u64 address = place.address[1 + i];
            if (at_once[k] && p.width[1 + i] != 0)
                load_group(address, p.width[1 + i], x[k][i]);
            else
                load_elements<Storage, E>(address, p.step[1 + i], p.whole[1 + i], from, to,
                                          x[k][i]);
        }
    }
#pragma unroll
    for (int k = 0; k < K; ++k) {
        const auto& [place, from, to] = group[k];
        if (from >= to) continue;
        if constexpr (FORM != RUNS)
            draw<E, Operation::EXACT>(key, place.index, p.threshold, noise);
        u32 y[WORDS];
        apply<Operation>(noise, x[k], y, p);
        if constexpr (FORM != PANEL) {
            if (at_once[k]) {
                store_group(place.address[0], y);
                continue;
            }
        }
        store_elements<Storage, E>(place.address[0], p.step[0], p.whole[0], from, to, y);
    }
}

template <class Operation, class Index>
FASTDROP_INLINE void treat_any(const Argument<AXES<ANY>>& p) {
    using Storage = typename Operation::Storage;
    constexpr int N = Operation::OPERANDS, E = GROUP<ANY, Storage>;
    constexpr int WORDS = (E * Storage::SIZE / Storage::TOGETHER + 3) / 4;
    const Index number = Index(blockIdx.x) * THREADS + threadIdx.x;
    if (number >= Index(p.groups)) return;
    const Key key = key_of(p);
    const u64 left = p.length - u64(number) * E;
    u32 noise[E] = {}, x[N + (N == 0)][WORDS] = {}, y[WORDS];
    u64 address = p.address[0] + u64(number);
#pragma unroll 1
    for (int e = 0; e < E; ++e) {
        if (u64(e) >= left) break;
        Place<N> place;
        place.begin(p);
        place.move_to(number * E + Index(e), p, 0);
        u32 own[1] = {};
        if (!p.certain) draw<1, Operation::EXACT>(key, place.index, p.threshold, own);
        if constexpr (E == 1) {
            address = place.address[0];
#pragma unroll
            for (int i = 0; i < N; ++i)
                if (Operation::reads(own[0] >= p.threshold))
                    load_elements<Storage, 1>(place.address[1 + i], 0, p.whole[1 + i], 0, 1, x[i]);
        }
#pragma unroll
        for (int o = 0; o < E; ++o) noise[o] = o == e ? own[0] : noise[o];
    }
    apply<Operation>(noise, x, y, p);
    store_elements<Storage, E>(address, 0, p.whole[0], 0, left < E ? int(left) : E, y);
}

template <class Operation, Form FORM, class Index>
FASTDROP_INLINE void run(const Argument<AXES<FORM>>& p) {
    if constexpr (FORM == ANY) treat_any<Operation, Index>(p);
    else treat_groups<Operation, FORM, Index>(p);
}

}  // namespace fastdrop

// Entry points. Plain names, because names of templates would have to be looked up by compiling:
// CuPy then does not use what it has cached on disk.
#define FASTDROP_KERNEL(NAME, OPERATION, FORM, INDEX)                                     \
    extern "C" __global__ void __launch_bounds__(fastdrop::THREADS)                       \
        NAME(const __grid_constant__ fastdrop::Argument<fastdrop::AXES<fastdrop::FORM>> p) { \
        fastdrop::run<OPERATION, fastdrop::FORM, INDEX>(p);                               \
    }

#define FASTDROP_FORM(NAME, OPERATION, FORM)                                              \
    FASTDROP_KERNEL(NAME##_32, OPERATION, FORM, fastdrop::u32)                            \
    FASTDROP_KERNEL(NAME##_64, OPERATION, FORM, fastdrop::u64)

// Adds 1 to the stream of a key in device memory.
#define FASTDROP_ADVANCE(NAME)                                                            \
    extern "C" __global__ void NAME(fastdrop::Key* key) { key->stream += 1; }
