// Operations: functors that compute an output element from its uniform and its operands.
//
// An operation declares the storage type of the output, those of its operands, and what it needs of
// the uniforms: `apply` is passed whether the element is kept, or its uniform. It selects and never
// multiplies by the mask, so that a dropped NaN or infinity disappears. A new operation is a few
// lines; the kernels around it are shared. Its float32 arithmetic must use `multiply`, `add` and
// `subtract`, or subnormals are flushed to zero.

namespace fastdrop {

constexpr int MAX_OPERANDS = 3;

// The storage types of operands.
template <class... Storages>
struct Reads {
    static constexpr int COUNT = sizeof...(Storages);
    static_assert(COUNT <= MAX_OPERANDS, "too many for an argument");
    // Bytes of an element of operand i.
    static FASTDROP_INLINE constexpr int size(int i) {
        const int sizes[] = {Storages::SIZE..., 0};
        return sizes[i];
    }
};

// What an operation needs of the uniforms: a comparison with the launch's threshold; a comparison
// with a per-element threshold, which is the second operand, or the only one; the exact uniform; or
// the standard normal number made of it, a float, which `apply` is given instead.
// Of the first, `apply` takes a bool.
enum Uniforms { COMPARE_COMMON, COMPARE_OWN, EXACT, NORMAL };

// An outer axis. Strides are in bytes in memory, y first and then the operands, and in elements in
// the mask.
struct Axis {
    u64 length;
    u64 index_step;
    i64 step[1 + MAX_OPERANDS];
    u32 magic, shift;  // for the division by the length, see `divide`
};

// The parameters of a launch. launch.py packs them, and a test compares the offsets of all fields.
struct Params {
    u64 address[1 + MAX_OPERANDS];  // of y and the operands
    u64 seed, stream;
    u64 key;        // address of seed and stream in device memory, if not 0
    u64 index;      // mask index of the first element
    u64 value[4];   // the operation's parameters, see `parameter`
    u32 threshold;
    u32 degenerate;  // p is 0 or 1: nothing is drawn, and one decision holds for all elements
    // The rest depends on the layout only.
    u64 groups;    // groups of elements; each is one thread's work
    u64 length;    // of the inner axis; for the schedule ANY, the number of elements
    i64 step[1 + MAX_OPERANDS];    // strides along the inner axis
    u32 aligned[1 + MAX_OPERANDS];   // whether elements are aligned to their size
    u32 width[1 + MAX_OPERANDS];   // bytes of a group that can be loaded at once; 0: only elements
    Axis row_groups;  // groups along the inner axis: length, magic and shift; see also softmax.cuh
    u32 axes, unused;
};

// The whole argument of a kernel. Launches with more axes use the schedule ANY.
template <int AXES>
struct Argument : Params {
    Axis axis[AXES];  // innermost first
};
static_assert(sizeof(Axis) == 56 && sizeof(Argument<8>) == 248 + 8 * 56, "launch.py packs this");

template <class Value>
FASTDROP_INLINE Value parameter(const Params& p, int byte) {
    static_assert(sizeof(Value) <= sizeof(Params::value), "too large");
    Value value;
    memcpy(&value, reinterpret_cast<const u8*>(p.value) + byte, sizeof(value));
    return value;
}

// Base of most operations: they read x in the storage type of the output, and further operands.
// `reads` returns whether operands are read, given the decision by the launch's threshold: not for
// elements that it drops.
template <class Storage_, Uniforms UNIFORMS_, class... Others>
struct Of {
    using Storage = Storage_;
    using Value = typename Storage::Value;
    using Operands = Reads<Storage, Others...>;
    static constexpr Uniforms UNIFORMS = UNIFORMS_;
    static FASTDROP_INLINE bool reads(bool kept) { return UNIFORMS != COMPARE_COMMON || kept; }
};

// Dropout: kept elements times the parameter, +0.0 where dropped.
template <class Storage>
struct Drop : Of<Storage, COMPARE_COMMON> {
    using Value = typename Storage::Value;
    static FASTDROP_INLINE Value apply(bool kept, const Params& p, Value x) {
        // In the selection, the compiler would load the parameter for each element that is kept: 8
        // instructions more per group of 16 bytes.
        const Value scaled = multiply(x, parameter<Value>(p, 0));
        return kept ? scaled : Value(0);
    }
};

// Dropout with per-element thresholds and factors. An infinite factor drops the element: a
// threshold of 2**32, above all uniforms, does not fit in 32 bits.
template <class Storage, class Factor>
struct DropEach : Of<Storage, COMPARE_OWN, Raw<4>, Factor> {
    using Value = typename Storage::Value;
    static FASTDROP_INLINE Value apply(u32 uniform, const Params&, Value x, u32 threshold,
                                       Value factor) {
        using Bits = typename BitsOf<sizeof(Value)>::type;
        constexpr u64 INFINITE = sizeof(Value) == 8 ? 0x7FF0000000000000u : 0x7F800000u;
        const bool kept = uniform >= threshold && bit_cast<Bits>(factor) != Bits(INFINITE);
        return kept ? multiply(x, factor) : Value(0);
    }
};

// Alpha dropout with parameters a, b, c: a * x + b where kept, c where dropped.
template <class Storage>
struct Alpha : Of<Storage, COMPARE_COMMON> {
    using Value = typename Storage::Value;
    static FASTDROP_INLINE Value apply(bool kept, const Params& p, Value x) {
        constexpr int NEXT = sizeof(Value);
        const Value y = add(multiply(x, parameter<Value>(p, 0)), parameter<Value>(p, NEXT));
        return kept ? y : parameter<Value>(p, 2 * NEXT);
    }
};

// A normal number with the parameter as its standard deviation.
template <class Value>
FASTDROP_INLINE Value scaled(float normal, const Params& p) {
    return multiply(to_value<Value>(normal), parameter<Value>(p, 0));
}

// Gaussian dropout: elements times normals of mean 1, with the parameter as standard deviation.
template <class Storage>
struct GaussianDrop : Of<Storage, NORMAL> {
    using Value = typename Storage::Value;
    static FASTDROP_INLINE Value apply(float normal, const Params& p, Value x) {
        return multiply(x, add(scaled<Value>(normal, p), Value(1)));
    }
};

// Gaussian noise: elements plus normals of mean 0, with the parameter as standard deviation.
template <class Storage>
struct GaussianAdd : Of<Storage, NORMAL> {
    using Value = typename Storage::Value;
    static FASTDROP_INLINE Value apply(float normal, const Params& p, Value x) {
        return add(x, scaled<Value>(normal, p));
    }
};

// Masked fill: kept elements unchanged, the parameter where dropped.
template <class Storage>
struct Fill : Of<Storage, COMPARE_COMMON> {
    using Value = typename Storage::Value;
    static FASTDROP_INLINE Value apply(bool kept, const Params& p, Value x) {
        return kept ? x : parameter<Value>(p, 0);
    }
};

// Masked fill with per-element thresholds, of 64 bits: 2**32 always drops.
template <class Storage>
struct FillEach : Of<Storage, COMPARE_OWN, Raw<8>> {
    using Value = typename Storage::Value;
    static FASTDROP_INLINE Value apply(u32 uniform, const Params& p, Value x, u64 threshold) {
        return uniform >= threshold ? x : parameter<Value>(p, 0);
    }
};

// Masked fill from an array: x where kept, the value's element where dropped.
template <class Storage>
struct FillFrom : Of<Storage, COMPARE_COMMON, Storage> {
    using Value = typename Storage::Value;
    static FASTDROP_INLINE bool reads(bool) { return true; }
    static FASTDROP_INLINE Value apply(bool kept, const Params&, Value x, Value value) {
        return kept ? x : value;
    }
};

// Zoneout: x where kept, h_prev where dropped; or their mean, by the parameters p and 1 - p.
template <class Storage, bool MEAN>
struct Zoneout : Of<Storage, COMPARE_COMMON, Storage> {
    using Value = typename Storage::Value;
    static FASTDROP_INLINE bool reads(bool) { return true; }
    static FASTDROP_INLINE Value apply(bool kept, const Params& p, Value x, Value h_prev) {
        constexpr int NEXT = sizeof(Value);
        if (MEAN)
            return add(multiply(h_prev, parameter<Value>(p, 0)),
                       multiply(x, parameter<Value>(p, NEXT)));
        return kept ? x : h_prev;
    }
};

// The keep mask, 1 kept and 0 dropped, as bytes or packed to bits.
template <class Storage_>
struct Mark {
    using Storage = Storage_;
    using Value = typename Storage::Value;
    using Operands = Reads<>;
    static constexpr Uniforms UNIFORMS = COMPARE_COMMON;
    static FASTDROP_INLINE bool reads(bool) { return false; }
    static FASTDROP_INLINE Value apply(bool kept, const Params&) {
        return kept;
    }
};

// The keep mask with per-element thresholds, of 64 bits.
template <class Storage_>
struct MarkEach {
    using Storage = Storage_;
    using Value = typename Storage::Value;
    using Operands = Reads<Raw<8>>;
    static constexpr Uniforms UNIFORMS = COMPARE_OWN;
    static FASTDROP_INLINE bool reads(bool) { return true; }
    static FASTDROP_INLINE Value apply(u32 uniform, const Params&, u64 threshold) {
        return uniform >= threshold;
    }
};

}  // namespace fastdrop
