// What stands in for CUDA's built-in names where the kernels are compiled for the host.

#include <cmath>
#include <cstring>

using std::memcpy;

#define __device__
#define __global__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

struct Index3 {
    unsigned x, y, z;
};

inline Index3 threadIdx, blockIdx;  // those of all files
