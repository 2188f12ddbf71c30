// Behind the kernels: how a launch is run, over every block and thread in order.

#include <cstddef>

#define HOST extern "C" __attribute__((visibility("default")))

template <class Argument>
static void run_all(void* kernel, const void* argument, unsigned grid, unsigned block) {
    const auto typed = reinterpret_cast<void (*)(Argument)>(kernel);
    for (blockIdx.x = 0; blockIdx.x < grid; ++blockIdx.x)
        for (threadIdx.x = 0; threadIdx.x < block; ++threadIdx.x)
            typed(*static_cast<const Argument*>(argument));
}

// Returns whether there is a kernel argument of that size.
HOST bool run_on_host(void* kernel, const void* argument, std::size_t bytes, unsigned grid,
                      unsigned block) {
    using Few = fastdrop::Argument<FASTDROP_AXES>;
    using Many = fastdrop::Argument<FASTDROP_MAX_AXES>;
    if (bytes == sizeof(Few)) run_all<Few>(kernel, argument, grid, block);
    else if (bytes == sizeof(Many)) run_all<Many>(kernel, argument, grid, block);
#ifdef FASTDROP_BATCH
    else if (bytes == sizeof(fastdrop::Batch)) run_all<fastdrop::Batch>(kernel, argument, grid, block);
#endif
    else if (bytes == sizeof(void*)) run_all<void*>(kernel, argument, grid, block);
    else return false;
    return true;
}

// The contract, for known answers.
HOST void philox_on_host(const unsigned* in, unsigned* out) {
    const auto bits = fastdrop::Philox(in[1], in[2], in[3], in[4], in[5])(in[0]);
    for (int w = 0; w < 4; ++w) out[w] = bits.word[w];
}
HOST unsigned uniform_on_host(unsigned long long seed, unsigned long long stream,
                              unsigned long long index) {
    return fastdrop::uniform32({seed, stream}, index);
}
HOST unsigned draw_on_host(unsigned long long seed, unsigned long long stream,
                           unsigned long long index, unsigned draw) {
    return fastdrop::draw32({seed, stream}, index, draw);
}
HOST unsigned long long below_on_host(unsigned long long seed, unsigned long long stream,
                                      unsigned long long index, unsigned draw,
                                      unsigned long long n) {
    return fastdrop::uniform_below({seed, stream}, index, draw, n);
}
HOST bool precedes_on_host(unsigned long long seed, unsigned long long stream, unsigned long long i,
                           unsigned long long j, unsigned draw) {
    return fastdrop::precedes({seed, stream}, i, j, draw);
}
HOST void derived_on_host(unsigned long long seed, unsigned long long stream, unsigned long long n,
                          unsigned long long* out) {
    const fastdrop::Key folded = fastdrop::fold_in({seed, stream}, n);
    const fastdrop::Key derived = fastdrop::derive({seed, stream}, n);
    out[0] = folded.seed, out[1] = folded.stream, out[2] = derived.seed, out[3] = derived.stream;
}
HOST bool keep_on_host(unsigned long long seed, unsigned long long stream,
                       unsigned long long index, unsigned long long threshold) {
    return fastdrop::keep({seed, stream}, index, threshold);
}

// The half types' conversions.
HOST float float16_widened(unsigned short bits) { return fastdrop::Float16::to_float(bits); }
HOST unsigned float16_rounded(float value) { return fastdrop::Float16::from_float(value); }
HOST unsigned bfloat16_rounded(float value) { return fastdrop::Bfloat16::from_float(value); }

// Where fields lie: name, offset.
struct Field {
    const char* name;
    std::size_t offset;
};
#define FIELD(NAME) {#NAME, offsetof(Params, NAME)}
#define AXIS_FIELD(NAME) {"axis." #NAME, offsetof(fastdrop::Axis, NAME)}
#ifdef FASTDROP_BATCH
#define BATCH_FIELD(NAME) {#NAME, offsetof(fastdrop::Batch, NAME)}
HOST const Field BATCH_FIELDS[] = {
    BATCH_FIELD(address), BATCH_FIELD(seed), BATCH_FIELD(stream), BATCH_FIELD(key),
    BATCH_FIELD(table), BATCH_FIELD(has_keys), BATCH_FIELD(rows), BATCH_FIELD(length),
    BATCH_FIELD(last), BATCH_FIELD(first), BATCH_FIELD(step), BATCH_FIELD(word),
    {"end", sizeof(fastdrop::Batch)}, {nullptr, 0}};
#endif
using fastdrop::Params;
HOST const Field FIELDS[] = {
    FIELD(address),   FIELD(seed),   FIELD(stream), FIELD(key),    FIELD(index),
    FIELD(value),     FIELD(threshold), FIELD(degenerate), FIELD(groups), FIELD(length),
    FIELD(step),      FIELD(aligned),  FIELD(width),  FIELD(row_groups),  FIELD(axes),
    {"axis", sizeof(Params)}, AXIS_FIELD(length), AXIS_FIELD(index_step), AXIS_FIELD(step),
    AXIS_FIELD(magic), AXIS_FIELD(shift), {"axis.end", sizeof(fastdrop::Axis)}, {nullptr, 0}};
