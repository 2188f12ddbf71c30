// Operations: what becomes of an element once its noise is known.
//
// An operation names the storage type of what it writes, those of the operands that it reads, and
// what noise it needs. Of an element's noise and operands it makes what is written. It selects and
// never multiplies by the mask, so that a NaN or an infinity in a dropped place vanishes. A new one
// is a few lines; the kernels around it are shared. Its float32 arithmetic needs functions such as
// `times`, or subnormals are lost.

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

// What an operation needs of an element's uniform: its comparison with the launch's threshold, or
// with the element's own, which is the second operand, or the only one; or the uniform itself.
enum Noise { COMMON, OWN, EXACT };

// An axis around what a thread treats. Steps are in bytes through memory, y first and then the
// operands, and in elements through the mask.
struct Axis {
    u64 length;
    u64 index_step;
    i64 step[1 + MAX_OPERANDS];
    u32 magic, shift;  // of the division by the length, see `divided`
};

// What a launch is told. launch.py packs it, and a test compares the places of all fields.
struct Params {
    u64 address[1 + MAX_OPERANDS];  // y, and the operands
    u64 seed, stream;
    u64 key;       // address of seed and stream in device memory instead; or 0
    u64 index;     // mask index of the first element
    u64 value[4];  // what an operation needs besides: see `parameter`
    u32 threshold;
    u32 degenerate;   // nothing is drawn: p is 0 or 1, and one decision holds for all
    // From here on it is the layout that speaks, which does not change from call to call.
    u64 groups;    // pieces of work, each of one thread
    u64 length;    // of the inner axis, or of all where every element has coordinates of its own
    i64 step[1 + MAX_OPERANDS];    // along the inner axis
    u32 whole[1 + MAX_OPERANDS];   // whether elements are aligned to their size
    u32 width[1 + MAX_OPERANDS];   // bytes of a group that can be loaded at once; 0: only elements
    Axis slots;    // groups along the inner axis: length, magic and shift (softmax.cuh: see there)
    u32 axes, unused;
};

// The whole argument of a kernel. Most launches have few axes, and more go another way.
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

// What most operations say of themselves: they read x of the type that they write, and what else
// they are told. Of dropped elements nothing is read, where the launch's threshold tells which.
template <class Storage_, Noise NOISE_, class... Others>
struct Of {
    using Storage = Storage_;
    using Value = typename Storage::Value;
    using Operands = Reads<Storage, Others...>;
    static constexpr Noise NOISE = NOISE_;
    static FASTDROP_INLINE bool reads(bool kept) { return NOISE != COMMON || kept; }
};

// Dropout: kept elements times the parameter, dropped ones +0.0.
template <class Storage>
struct Drop : Of<Storage, COMMON> {
    using Value = typename Storage::Value;
    static FASTDROP_INLINE Value apply(u32 noise, const Params& p, Value x) {
        return noise >= p.threshold ? times(x, parameter<Value>(p, 0)) : Value(0);
    }
};

// Dropout by thresholds and factors of the elements' own. An infinite factor drops whatever the
// threshold: 2**32, which is above all noise, has no place in 32 bits.
template <class Storage, class Factor>
struct DropEach : Of<Storage, OWN, Moved<4>, Factor> {
    using Value = typename Storage::Value;
    static FASTDROP_INLINE Value apply(u32 noise, const Params&, Value x, u32 threshold,
                                       Value factor) {
        using Bits = typename BitsOf<sizeof(Value)>::type;
        constexpr u64 INFINITE = sizeof(Value) == 8 ? 0x7FF0000000000000u : 0x7F800000u;
        const bool kept = noise >= threshold && cast<Bits>(factor) != Bits(INFINITE);
        return kept ? times(x, factor) : Value(0);
    }
};

// Alpha dropout: kept elements times a parameter plus another, dropped ones a third.
template <class Storage>
struct Alpha : Of<Storage, COMMON> {
    using Value = typename Storage::Value;
    static FASTDROP_INLINE Value apply(u32 noise, const Params& p, Value x) {
        constexpr int NEXT = sizeof(Value);
        const Value kept = plus(times(x, parameter<Value>(p, 0)), parameter<Value>(p, NEXT));
        return noise >= p.threshold ? kept : parameter<Value>(p, 2 * NEXT);
    }
};

// A normal number of the deviation that is the parameter.
template <class Value>
FASTDROP_INLINE Value deviate(u32 noise, const Params& p) {
    return times(computed<Value>(standard_normal(noise)), parameter<Value>(p, 0));
}

// Gaussian dropout: elements times normals of mean 1, whose deviation is the parameter.
template <class Storage>
struct GaussianDrop : Of<Storage, EXACT> {
    using Value = typename Storage::Value;
    static FASTDROP_INLINE Value apply(u32 noise, const Params& p, Value x) {
        return times(x, plus(deviate<Value>(noise, p), Value(1)));
    }
};

// Gaussian noise: elements plus normals of mean 0, whose deviation is the parameter.
template <class Storage>
struct GaussianAdd : Of<Storage, EXACT> {
    using Value = typename Storage::Value;
    static FASTDROP_INLINE Value apply(u32 noise, const Params& p, Value x) {
        return plus(x, deviate<Value>(noise, p));
    }
};

// Masked fill: kept elements as they are, dropped ones the parameter.
template <class Storage>
struct Fill : Of<Storage, COMMON> {
    using Value = typename Storage::Value;
    static FASTDROP_INLINE Value apply(u32 noise, const Params& p, Value x) {
        return noise >= p.threshold ? x : parameter<Value>(p, 0);
    }
};

// Masked fill by thresholds of the elements' own. They have 64 bits, for 2**32, which drops all.
template <class Storage>
struct FillEach : Of<Storage, OWN, Moved<8>> {
    using Value = typename Storage::Value;
    static FASTDROP_INLINE Value apply(u32 noise, const Params& p, Value x, u64 threshold) {
        return noise >= threshold ? x : parameter<Value>(p, 0);
    }
};

// The decision itself, 1 kept and 0 dropped: a byte each, or a bit each.
template <class Storage_>
struct Mark {
    using Storage = Storage_;
    using Value = typename Storage::Value;
    using Operands = Reads<>;
    static constexpr Noise NOISE = COMMON;
    static FASTDROP_INLINE bool reads(bool) { return false; }
    static FASTDROP_INLINE Value apply(u32 noise, const Params& p) {
        return noise >= p.threshold;
    }
};

// The decision by thresholds of the elements' own, of 64 bits.
template <class Storage_>
struct MarkEach {
    using Storage = Storage_;
    using Value = typename Storage::Value;
    using Operands = Reads<Moved<8>>;
    static constexpr Noise NOISE = OWN;
    static FASTDROP_INLINE bool reads(bool) { return true; }
    static FASTDROP_INLINE Value apply(u32 noise, const Params&, u64 threshold) {
        return noise >= threshold;
    }
};

}  // namespace fastdrop
