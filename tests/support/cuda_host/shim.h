// What stands in for CUDA's built-in names where the kernels are compiled for the host.

#include <cmath>
#include <cstring>

using std::memcpy;

#define __device__
#define __global__
#define __shared__ static
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)
#define __grid_constant__

struct Index3 {
    unsigned x, y, z;
};

inline Index3 threadIdx, blockIdx;  // those of all files

inline void __syncthreads() {}  // one thread runs the steps of all

// The hardware's approximations: rounded to nearest, and then moved by some units in the last place,
// by a hash of the argument. The largest errors are those that are documented, two units for powers
// of two and one for reciprocals; small ones are more frequent. A test that passes with these errors
// does not depend on what the hardware's are. Powers of two are exact. Subnormal results are flushed to
// zero.
inline float moved(double exact, float argument, int times) {
    const float nearest = float(exact);
    if (!(std::fabs(nearest) >= 0x1p-126f)) return nearest * 0.0f;  // a NaN stays
    unsigned bits, result;
    memcpy(&bits, &argument, sizeof(bits));
    memcpy(&result, &nearest, sizeof(result));
    if (std::isinf(nearest) || (double(nearest) == exact && result << 9 == 0)) return nearest;
    for (unsigned hash = bits * 0x9E3779B9u >> 16; times > 0; --times, hash /= 3)
        result += hash % 3 - 1;
    float value;
    memcpy(&value, &result, sizeof(value));
    return value;
}
inline float approximate_power_of_two(float x) { return moved(std::exp2(double(x)), x, 2); }
inline float approximate_reciprocal(float x) { return moved(1.0 / double(x), x, 1); }
