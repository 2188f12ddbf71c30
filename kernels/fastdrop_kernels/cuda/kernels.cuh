// The kernel bodies: bits, decide, apply. A thread treats groups of E neighbours along one axis, the
// inner one; what the groups are is the form of a launch:
//
//   FLAT   a single line, of which mask and all arrays are contiguous: what calls mostly are
//   LINE   index step 1, y contiguous: rows of a box
//   RUNS   index step 0, y contiguous: a decision for a whole run, and what is dropped is not read
//   PANEL  index step 1, y not contiguous, as in Fortran order: threads side by side go along the
//          axis that is contiguous in memory, and each takes a Philox block across it
//   ANY    every element has coordinates of its own: for all other layouts, right and not fast
//
// Groups of the first three are aligned to 16 bytes of y, so that they are written at once; the first
// and the last of a row may be partial, and go element by element in the same kernel.

namespace fastdrop {

enum Form { FLAT, LINE, RUNS, PANEL, ANY };

// Axes around what a thread treats, at most. CuPy's arrays have 25 or fewer.
template <Form FORM>
constexpr int AXES = FORM == ANY ? FASTDROP_MOST_AXES : FASTDROP_AXES;

constexpr int THREADS = FASTDROP_THREADS;  // of a CUDA block; modules.py sets what is in capitals

template <Form FORM, class Storage>
constexpr int GROUP = FORM == PANEL ? BLOCK : FORM == ANY ? Storage::TOGETHER : Storage::GROUP;

template <class Storage, int E>
constexpr int WORDS_OF = (E * Storage::SIZE / Storage::TOGETHER + 3) / 4;

template <class Operation>
constexpr int OPERANDS = Operation::Operands::COUNT;

// Blocks that a multiprocessor has registers for at least; 0 leaves it to the compiler, which for
// kernels that load much wants more of them than there are registers, and moves some to memory.
template <Form FORM, class Operation>
constexpr int LEAST_BLOCKS =
    OPERANDS<Operation> > 1     ? (FORM == FLAT || FORM == PANEL ? 2 : 3)
    : Operation::NOISE == EXACT ? (FORM == FLAT ? 3 : 0)
                                : 0;

// K groups of E elements of every operand.
template <int E, int K, class Operands>
struct Loaded;
template <int E, int K>
struct Loaded<E, K, Reads<>> {};
template <int E, int K, class Storage_, class... Others>
struct Loaded<E, K, Reads<Storage_, Others...>> {
    using Storage = Storage_;
    u32 words[K][WORDS_OF<Storage, E>];
    Loaded<E, K, Reads<Others...>> others;
};

// Calls `visit` with every operand's number, storage type and groups.
template <int I = 0, int E, int K, class Visit>
FASTDROP_INLINE void each_operand(Loaded<E, K, Reads<>>&, const Visit&) {}
template <int I = 0, int E, int K, class Storage, class... Others, class Visit>
FASTDROP_INLINE void each_operand(Loaded<E, K, Reads<Storage, Others...>>& x, const Visit& visit) {
    visit(I, Storage{}, x.words);
    each_operand<I + 1>(x.others, visit);
}

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
FASTDROP_INLINE Group<OPERANDS<Operation>> located(Index number, const Argument<AXES<FORM>>& p) {
    using Storage = typename Operation::Storage;
    constexpr int N = OPERANDS<Operation>, E = GROUP<FORM, Storage>;
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
        if constexpr (FORM != FLAT) {
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
        const i64 bytes =
            i == 0 ? Storage::bytes(first) : first * Operation::Operands::size(i - (i != 0));
        place.address[i] += u64(contiguous ? bytes : first * p.step[i]);
    }
    if constexpr (FORM != RUNS) place.index += u64(first);
    return group;
}

FASTDROP_INLINE Key key_of(const Params& p) {
    if (p.key != 0) {  // a captured graph draws a new mask when what lies there has changed
        return {accessed<u64>(p.key), accessed<u64>(p.key + 8)};
    }
    return {p.seed, p.stream};
}

// What noise is drawn for, before operands are loaded, and after.
template <class Operation>
FASTDROP_INLINE auto purpose_of(const Params& p) {
    if constexpr (Operation::NOISE == COMMON)
        return Against{p.threshold};
    else
        return Itself{};
}
// The groups of the operand that thresholds are: the second one, or the only one.
template <int E, int K, class Storage>
FASTDROP_INLINE const auto& thresholds_of(const Loaded<E, K, Reads<Storage>>& x) {
    return x;
}
template <int E, int K, class First, class Second, class... Others>
FASTDROP_INLINE const auto& thresholds_of(const Loaded<E, K, Reads<First, Second, Others...>>& x) {
    return x.others;
}
// A threshold of 2**32 becomes 0: it drops whatever is drawn.
template <int E, class Thresholds>
FASTDROP_INLINE AgainstEach<E> against_each(const Thresholds& own, int k) {
    AgainstEach<E> purpose;
#pragma unroll
    for (int e = 0; e < E; ++e)
        purpose.threshold[e] = u32(Thresholds::Storage::get(own.words[k], e));
    return purpose;
}
template <class Operation, int E, int K>
FASTDROP_INLINE auto purpose_of(const Params& p,
                                const Loaded<E, K, typename Operation::Operands>& x, int k) {
    if constexpr (Operation::NOISE == OWN) {
        return against_each<E>(thresholds_of(x), k);
    } else {
        return purpose_of<Operation>(p);
    }
}

// An element's value, of those of its operands.
template <class Operation, int E, int K, class... Values>
FASTDROP_INLINE typename Operation::Value applied(const Loaded<E, K, Reads<>>&, int, int, u32 noise,
                                                  const Params& p, Values... operands) {
    return Operation::apply(noise, p, operands...);
}
template <class Operation, int E, int K, class Storage, class... Others, class... Values>
FASTDROP_INLINE typename Operation::Value applied(
    const Loaded<E, K, Reads<Storage, Others...>>& x, int k, int e, u32 noise, const Params& p,
    Values... operands) {
    return applied<Operation>(x.others, k, e, noise, p, operands..., Storage::get(x.words[k], e));
}

template <class Operation, int E, int K, int WORDS>
FASTDROP_INLINE void apply(const u32 (&noise)[E],
                           const Loaded<E, K, typename Operation::Operands>& x, int k,
                           u32 (&y)[WORDS], const Params& p) {
    typename Operation::Value values[E];
#pragma unroll
    for (int e = 0; e < E; ++e) values[e] = applied<Operation>(x, k, e, noise[e], p);
#pragma unroll
    for (int w = 0; w < WORDS; ++w) y[w] = 0;
    Operation::Storage::set(y, values);
}

// Elements one by one: each at a step from the one before, or all of them one that is repeated.
template <class Storage, int E, int WORDS>
FASTDROP_INLINE void load_elements(u64 address, i64 step, bool whole, int from, int to,
                                   u32 (&words)[WORDS]) {
    if (E > 1 && step == 0) {
        const auto repeated = load<Storage::SIZE>(address, whole);
#pragma unroll
        for (int e = 0; e < E; ++e) put<Storage::SIZE>(words, e, repeated);
        return;
    }
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

// One group of any form but ANY.
template <class Operation, Form FORM, class Index>
FASTDROP_INLINE void treat_group(Index number, const Argument<AXES<FORM>>& p) {
    using Storage = typename Operation::Storage;
    constexpr int E = GROUP<FORM, Storage>;
    const Group<OPERANDS<Operation>> group = located<Operation, FORM>(number, p);
    const auto& place = group.place;
    const int from = group.from, to = group.to;
    if (from >= to) return;
    const bool at_once = FORM != PANEL && p.whole[0] && to - from == E;
    const Key key = key_of(p);
    const Site site = site_of(place.index);
    u32 noise[E], y[WORDS_OF<Storage, E>];
    Loaded<E, 1, typename Operation::Operands> x = {};
    bool reads = true;
    if constexpr (FORM == RUNS) {
        u32 shared[1] = {};
        if (!p.degenerate) draw(key, site, purpose_of<Operation>(p), shared);
#pragma unroll
        for (int e = 0; e < E; ++e) noise[e] = shared[0];
        reads = Operation::reads(shared[0] >= p.threshold);
    }
    if (reads) {
        each_operand(x, [&](int i, auto storage, auto& words) {
            const u64 address = place.address[1 + i];
            if (at_once && p.width[1 + i] != 0)
                load_group(address, p.width[1 + i], words[0]);
            else
                load_elements<decltype(storage), E>(address, p.step[1 + i], p.whole[1 + i], from,
                                                    to, words[0]);
        });
    }
    if constexpr (FORM != RUNS) draw(key, site, purpose_of<Operation>(p, x, 0), noise);
    apply<Operation>(noise, x, 0, y, p);
    if constexpr (FORM != PANEL) {
        if (at_once) {
            store_group(place.address[0], y);
            return;
        }
    }
    store_elements<Storage, E>(place.address[0], p.step[0], p.whole[0], from, to, y);
}

// A thread has K groups in flight, as modules.py says: it loads them all, and then draws. They are a block's threads apart,
// so that neighbouring threads access neighbouring memory.
template <class Operation, class Index, int K>
FASTDROP_INLINE void treat_flat(const Argument<AXES<FLAT>>& p) {
    using Storage = typename Operation::Storage;
    constexpr int E = GROUP<FLAT, Storage>, APART = THREADS * E;
    static_assert(APART % BLOCK == 0, "groups of a thread have one phase");
    const Index number = Index(blockIdx.x) * (THREADS * K) + threadIdx.x;
    const i64 first = i64(number) * E - Storage::elements_behind(p.address[0]);
    if (first < 0 || first + (K - 1) * APART + E > i64(p.length)) {  // not all are whole
#pragma unroll 1
        for (int k = 0; k < K; ++k) {
            const Index mine = number + Index(k * THREADS);
            if (mine < Index(p.groups)) treat_group<Operation, FLAT>(mine, p);
        }
        return;
    }
    Loaded<E, K, typename Operation::Operands> x;
    each_operand(x, [&](int i, auto storage, auto& words) {
        const u64 address = p.address[1 + i] + u64(decltype(storage)::bytes(first));
        load_groups(address, decltype(storage)::bytes(APART), p.width[1 + i], words);
    });
    const Key key = key_of(p);
    const Site site = site_of(p.index + u64(first));
    const u64 address = p.address[0] + u64(Storage::bytes(first));
#pragma unroll
    for (int k = 0; k < K; ++k) {
        u32 noise[E], y[WORDS_OF<Storage, E>];
        draw(key, {site.block + u64(k * (APART / BLOCK)), site.phase},
             purpose_of<Operation>(p, x, k), noise);
        apply<Operation>(noise, x, k, y, p);
        store_group(address + u64(k * Storage::bytes(APART)), y);
    }
}

template <class Operation, class Index>
FASTDROP_INLINE void treat_any(const Argument<AXES<ANY>>& p) {
    using Storage = typename Operation::Storage;
    constexpr int E = GROUP<ANY, Storage>;
    const Index number = Index(blockIdx.x) * THREADS + threadIdx.x;
    if (number >= Index(p.groups)) return;
    const Key key = key_of(p);
    const u64 left = p.length - u64(number) * E;
    u32 noise[E] = {}, y[WORDS_OF<Storage, E>];
    Loaded<E, 1, typename Operation::Operands> x = {};
    u64 address = p.address[0] + u64(number);
#pragma unroll 1
    for (int e = 0; e < E; ++e) {
        if (u64(e) >= left) break;
        Place<OPERANDS<Operation>> place;
        place.begin(p);
        place.move_to(number * E + Index(e), p, 0);
        u32 own[1] = {};
        if (!p.degenerate) draw(key, site_of(place.index), purpose_of<Operation>(p), own);
        if constexpr (E == 1) {
            address = place.address[0];
            if (Operation::reads(own[0] >= p.threshold)) {
                each_operand(x, [&](int i, auto storage, auto& words) {
                    load_elements<decltype(storage), 1>(place.address[1 + i], 0, p.whole[1 + i], 0,
                                                        1, words[0]);
                });
            }
        }
#pragma unroll
        for (int o = 0; o < E; ++o) noise[o] = o == e ? own[0] : noise[o];
    }
    apply<Operation>(noise, x, 0, y, p);
    store_elements<Storage, E>(address, 0, p.whole[0], 0, left < E ? int(left) : E, y);
}

template <class Operation, Form FORM, class Index, int IN_FLIGHT>
FASTDROP_INLINE void run(const Argument<AXES<FORM>>& p) {
    if constexpr (FORM == FLAT) {
        treat_flat<Operation, Index, IN_FLIGHT>(p);
    } else if constexpr (FORM == ANY) {
        treat_any<Operation, Index>(p);
    } else {
        const Index number = Index(blockIdx.x) * THREADS + threadIdx.x;
        if (number < Index(p.groups)) treat_group<Operation, FORM>(number, p);
    }
}

}  // namespace fastdrop

// Entry points. Plain names, because names of templates would have to be looked up by compiling:
// CuPy then does not use what it has cached on disk. The operation comes last: it may have commas.
#define FASTDROP_KERNEL(NAME, FORM, INDEX, IN_FLIGHT, ...)                                \
    extern "C" __global__ void                                                            \
        __launch_bounds__(fastdrop::THREADS,                                              \
                          (fastdrop::LEAST_BLOCKS<fastdrop::FORM, __VA_ARGS__>))          \
        NAME(const __grid_constant__ fastdrop::Argument<fastdrop::AXES<fastdrop::FORM>> p) { \
        fastdrop::run<__VA_ARGS__, fastdrop::FORM, INDEX, IN_FLIGHT>(p);                  \
    }

#define FASTDROP_FORM(NAME, FORM, IN_FLIGHT, ...)                                         \
    FASTDROP_KERNEL(NAME##_32, FORM, fastdrop::u32, IN_FLIGHT, __VA_ARGS__)               \
    FASTDROP_KERNEL(NAME##_64, FORM, fastdrop::u64, IN_FLIGHT, __VA_ARGS__)

// Adds 1 to the stream of a key in device memory.
#define FASTDROP_ADVANCE(NAME)                                                            \
    extern "C" __global__ void NAME(fastdrop::Key* key) { key->stream += 1; }
