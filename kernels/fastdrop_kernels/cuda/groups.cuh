// Groups: a thread processes groups of E consecutive elements along one axis, the inner one:
// locates them, loads, draws, applies the operation, stores. The schedule of a launch defines the
// groups:
//
//   CONTIGUOUS  one axis, contiguous in the mask and in all arrays: the common case
//   STRIDED     index stride 1, y contiguous: rows of an array with outer axes
//   RUNS        index stride 0, y contiguous: one decision for a row; dropped rows are not read
//   TRANSPOSED  index stride 1, y not contiguous, as in Fortran order: a transposed tile. Adjacent
//               threads go along the axis that is contiguous in memory, and each draws one Philox
//               block across it
//   ANY         each element is located on its own: for other layouts, correct but not fast
//
// Groups of the first three are aligned to 16 bytes of y, and written by one store. The first and
// the last group of a row may be partial; their elements are stored one by one.

namespace fastdrop {

enum Schedule { CONTIGUOUS, STRIDED, RUNS, TRANSPOSED, ANY };

// Maximal number of outer axes. CuPy's arrays have 25 or fewer.
template <Schedule SCHEDULE>
constexpr int AXES = SCHEDULE == ANY ? FASTDROP_MAX_AXES : FASTDROP_AXES;

constexpr int THREADS = FASTDROP_THREADS;  // of a CUDA block; modules.py defines the macros

template <Schedule SCHEDULE, class Storage>
constexpr int GROUP = SCHEDULE == TRANSPOSED ? BLOCK
                      : SCHEDULE == ANY ? Storage::PER_UNIT
                                        : Storage::GROUP;

template <class Storage, int E>
constexpr int WORDS_OF = (E * Storage::SIZE / Storage::PER_UNIT + 3) / 4;

template <class Operation>
constexpr int OPERANDS = Operation::Operands::COUNT;

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

// Call `visit` with the number, storage type and groups of every operand.
template <int I = 0, int E, int K, class Visit>
FASTDROP_INLINE void each_operand(Loaded<E, K, Reads<>>&, const Visit&) {}
template <int I = 0, int E, int K, class Storage, class... Others, class Visit>
FASTDROP_INLINE void each_operand(Loaded<E, K, Reads<Storage, Others...>>& x, const Visit& visit) {
    visit(I, Storage{}, x.words);
    each_operand<I + 1>(x.others, visit);
}

FASTDROP_INLINE u32 high_product(u32 a, u32 b) { return u32(u64(a) * b >> 32); }

// n / axis.length. For 32 bits by a multiplication, with n below 2**31: T. Granlund and
// P. Montgomery, "Division by invariant integers using multiplication", PLDI 1994.
FASTDROP_INLINE u32 divide(u32 n, const Axis& axis) {
    return (high_product(n, axis.magic) + n) >> axis.shift;
}
FASTDROP_INLINE u64 divide(u64 n, const Axis& axis) { return n / axis.length; }

// The location of an element: its addresses in memory (y first), and its mask index.
template <int N>
struct Location {
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
    // Move to an element of the axes from `first` on, numbered with that axis fastest.
    template <class Index, int AXES>
    FASTDROP_INLINE void move_to(Index element, const Argument<AXES>& p, u32 first) {
        for (u32 i = first; i < p.axes; ++i) {
            const Index rest = divide(element, p.axis[i]);
            move(element - rest * Index(p.axis[i].length), p.axis[i]);
            element = rest;
        }
    }
};

// A group: the location of its first element, and which of its E elements exist.
template <int N>
struct Group {
    Location<N> location;
    int from, to;
};

template <class Operation, Schedule SCHEDULE, class Index>
FASTDROP_INLINE Group<OPERANDS<Operation>> locate_group(Index number,
                                                        const Argument<AXES<SCHEDULE>>& p) {
    using Storage = typename Operation::Storage;
    constexpr int N = OPERANDS<Operation>, E = GROUP<SCHEDULE, Storage>;
    Group<N> group;
    Location<N>& location = group.location;
    location.begin(p);
    Index group_number = number;
    int skipped;  // elements of group 0 before the beginning of the row
    if constexpr (SCHEDULE == TRANSPOSED) {
        const Index rest = divide(number, p.axis[0]);
        const Index outer = divide(rest, p.row_groups);
        group_number = rest - outer * Index(p.row_groups.length);
        location.move_to(outer, p, 1);
        // A group is a Philox block: `skipped` is the same for all rows that begin alike.
        skipped = int(location.index % BLOCK);
        location.move(number - rest * Index(p.axis[0].length), p.axis[0]);
    } else {
        if constexpr (SCHEDULE != CONTIGUOUS) {
            const Index outer = divide(number, p.row_groups);
            group_number = number - outer * Index(p.row_groups.length);
            location.move_to(outer, p, 0);
        }
        skipped = p.aligned[0] ? Storage::misalignment(location.address[0]) : 0;
    }
    const i64 first = i64(group_number) * E - skipped, left = i64(p.length) - first;
    group.from = first < 0 ? skipped : 0;
    group.to = left < E ? int(left) : E;  // below `from` if no element is left
#pragma unroll
    for (int i = 0; i <= N; ++i) {
        // With a constant stride, this is one instruction.
        const bool contiguous = SCHEDULE != TRANSPOSED && (i == 0 || p.width[i] != 0);
        const i64 bytes =
            i == 0 ? Storage::bytes(first) : first * Operation::Operands::size(i - (i != 0));
        location.address[i] += u64(contiguous ? bytes : first * p.step[i]);
    }
    if constexpr (SCHEDULE != RUNS) location.index += u64(first);
    return group;
}

FASTDROP_INLINE Key key_of(const Params& p) {
    if (p.key != 0) {  // read at run time, so that a captured graph draws a new mask at each replay
        return {loaded<u64>(p.key), loaded<u64>(p.key + 8)};
    }
    return {p.seed, p.stream};
}

// The purpose of drawing, before operands are loaded, and after.
template <class Operation>
FASTDROP_INLINE auto purpose_of(const Params& p) {
    if constexpr (Operation::UNIFORMS == COMPARE_COMMON)
        return Comparison{p.threshold};
    else
        return AllBits{};
}
// The groups of the threshold operand: the second operand, or the only one.
template <int E, int K, class Storage>
FASTDROP_INLINE const auto& thresholds_of(const Loaded<E, K, Reads<Storage>>& x) {
    return x;
}
template <int E, int K, class First, class Second, class... Others>
FASTDROP_INLINE const auto& thresholds_of(const Loaded<E, K, Reads<First, Second, Others...>>& x) {
    return x.others;
}
// A 64-bit threshold of 2**32 becomes 0 here, which is fine: it drops whatever the low half is.
template <int E, class Thresholds>
FASTDROP_INLINE PerElementComparison<E> per_element_comparison(const Thresholds& own, int k) {
    PerElementComparison<E> purpose;
#pragma unroll
    for (int e = 0; e < E; ++e)
        purpose.threshold[e] = u32(Thresholds::Storage::get(own.words[k], e));
    return purpose;
}
template <class Operation, int E, int K>
FASTDROP_INLINE auto purpose_of(const Params& p,
                                const Loaded<E, K, typename Operation::Operands>& x, int k) {
    if constexpr (Operation::UNIFORMS == COMPARE_OWN) {
        return per_element_comparison<E>(thresholds_of(x), k);
    } else {
        return purpose_of<Operation>(p);
    }
}

// Apply the operation to an element: recursion over the operands collects their values. `drawn` is
// whether the element is kept, or its uniform, see `Uniforms`.
template <class Operation, int E, int K, class Drawn, class... Values>
FASTDROP_INLINE typename Operation::Value apply_to_element(const Loaded<E, K, Reads<>>&, int, int,
                                                           Drawn drawn, const Params& p,
                                                           Values... operands) {
    return Operation::apply(drawn, p, operands...);
}
template <class Operation, int E, int K, class Drawn, class Storage, class... Others,
          class... Values>
FASTDROP_INLINE typename Operation::Value apply_to_element(
    const Loaded<E, K, Reads<Storage, Others...>>& x, int k, int e, Drawn drawn, const Params& p,
    Values... operands) {
    return apply_to_element<Operation>(x.others, k, e, drawn, p, operands...,
                                       Storage::get(x.words[k], e));
}

template <class Operation, int E, int K, class Drawn, int WORDS>
FASTDROP_INLINE void apply_to_group(const Drawn (&drawn)[E],
                                    const Loaded<E, K, typename Operation::Operands>& x, int k,
                                    u32 (&y)[WORDS], const Params& p) {
    typename Operation::Value values[E];
#pragma unroll
    for (int e = 0; e < E; ++e) values[e] = apply_to_element<Operation>(x, k, e, drawn[e], p);
#pragma unroll
    for (int w = 0; w < WORDS; ++w) y[w] = 0;
    Operation::Storage::set(y, values);
}

// Apply the operation to a group, given the uniforms of its elements.
template <class Operation, int E, int K, int WORDS>
FASTDROP_INLINE void apply(const u32 (&uniform)[E],
                           const Loaded<E, K, typename Operation::Operands>& x, int k,
                           u32 (&y)[WORDS], const Params& p) {
    if constexpr (Operation::UNIFORMS == COMPARE_COMMON) {
        bool kept[E];
#pragma unroll
        for (int e = 0; e < E; ++e) kept[e] = uniform[e] >= p.threshold;
        apply_to_group<Operation>(kept, x, k, y, p);
    } else if constexpr (Operation::UNIFORMS == NORMAL) {
        float normal[E];
        standard_normals(uniform, normal);
        apply_to_group<Operation>(normal, x, k, y, p);
    } else {
        apply_to_group<Operation>(uniform, x, k, y, p);
    }
}

// Apply it given the elements that are kept: E bits of a word, from bit `first` on.
template <class Operation, int E, int K, int WORDS>
FASTDROP_INLINE void apply_by_bits(u32 bits, int first,
                                   const Loaded<E, K, typename Operation::Operands>& x, int k,
                                   u32 (&y)[WORDS], const Params& p) {
    if constexpr (OPERANDS<Operation> == 0) {
        Operation::Storage::set_bits(y, bits, first);
    } else {
        bool kept[E];
#pragma unroll
        for (int e = 0; e < E; ++e) kept[e] = is_set(bits, first + e);
        apply_to_group<Operation>(kept, x, k, y, p);
    }
}

// Load or store elements one by one, at a stride; with stride 0, load one element for all.
template <class Storage, int E, int WORDS>
FASTDROP_INLINE void load_elements(u64 address, i64 step, bool aligned, int from, int to,
                                   u32 (&words)[WORDS]) {
    if (E > 1 && step == 0) {
        const auto repeated = load<Storage::SIZE>(address, aligned);
#pragma unroll
        for (int e = 0; e < E; ++e) put_bits<Storage::SIZE>(words, e, repeated);
        return;
    }
#pragma unroll
    for (int e = 0; e < E; ++e)
        if (e >= from && e < to)
            put_bits<Storage::SIZE>(words, e,
                                    load<Storage::SIZE>(address + u64(e * step), aligned));
}

template <class Storage, int E, int WORDS>
FASTDROP_INLINE void store_elements(u64 address, i64 step, bool aligned, int from, int to,
                                    u32 (&words)[WORDS]) {
    if constexpr (Storage::PER_UNIT != 1) {  // unused bits of the last byte are zeros
        if (to < E) words[0] &= (1u << to) - 1;
    }
#pragma unroll
    for (int e = 0; e < E; e += Storage::PER_UNIT)
        if (e >= from && e < to)
            store<Storage::SIZE>(address + u64(e / Storage::PER_UNIT * step),
                                 get_bits<Storage::SIZE>(words, e / Storage::PER_UNIT), aligned);
}

// The stride of an array along the inner axis; in the schedule CONTIGUOUS, a constant.
template <Schedule SCHEDULE, class Storage>
FASTDROP_INLINE i64 inner_step(const Params& p, int array) {
    return SCHEDULE == CONTIGUOUS ? Storage::SIZE : p.step[array];
}

// Load the operands of a group, of any schedule but ANY.
template <class Operation, Schedule SCHEDULE, int E>
FASTDROP_INLINE void load_operands(const Group<OPERANDS<Operation>>& group, bool at_once,
                                   const Params& p,
                                   Loaded<E, 1, typename Operation::Operands>& x) {
    each_operand(x, [&](int i, auto storage, auto& words) {
        using Storage = decltype(storage);
        const u64 address = group.location.address[1 + i];
        if (at_once && p.width[1 + i] != 0)
            load_group(address, p.width[1 + i], words[0]);
        else
            load_elements<Storage, E>(address, inner_step<SCHEDULE, Storage>(p, 1 + i),
                                      p.aligned[1 + i], group.from, group.to, words[0]);
    });
}

template <class Storage, Schedule SCHEDULE, int E, int N, int WORDS>
FASTDROP_INLINE void store_results(const Group<N>& group, bool at_once, const Params& p,
                                   u32 (&y)[WORDS]) {
    const u64 address = group.location.address[0];
    if constexpr (SCHEDULE != TRANSPOSED) {
        if (at_once) {
            store_group(address, y);
            return;
        }
    }
    store_elements<Storage, E>(address, inner_step<SCHEDULE, Storage>(p, 0), p.aligned[0],
                               group.from, group.to, y);
}

// One group, of any schedule but ANY.
template <class Operation, Schedule SCHEDULE, class Index>
FASTDROP_INLINE void run_group(Index number, const Argument<AXES<SCHEDULE>>& p) {
    using Storage = typename Operation::Storage;
    constexpr int E = GROUP<SCHEDULE, Storage>;
    const Group<OPERANDS<Operation>> group = locate_group<Operation, SCHEDULE>(number, p);
    if (group.from >= group.to) return;
    const bool at_once = SCHEDULE != TRANSPOSED && p.aligned[0] && group.to - group.from == E;
    const Key key = key_of(p);
    const MaskPosition position = mask_position(group.location.index);
    u32 uniform[E], y[WORDS_OF<Storage, E>];
    Loaded<E, 1, typename Operation::Operands> x = {};
    bool reads = true;
    if constexpr (SCHEDULE == RUNS) {
        u32 shared[1] = {};
        if (!p.degenerate) draw(key, position, purpose_of<Operation>(p), shared);
#pragma unroll
        for (int e = 0; e < E; ++e) uniform[e] = shared[0];
        reads = Operation::reads(shared[0] >= p.threshold);
    }
    if (reads) load_operands<Operation, SCHEDULE>(group, at_once, p, x);
    if constexpr (SCHEDULE != RUNS) draw(key, position, purpose_of<Operation>(p, x, 0), uniform);
    apply<Operation>(uniform, x, 0, y, p);
    store_results<Storage, SCHEDULE, E>(group, at_once, p, y);
}

}  // namespace fastdrop
