// CUDA's words as C++, so that image.cu itself is compiled for the host: one thread of a block after the other, one block
// after the other. Host threads launch at the same time, so what belongs to a block belongs to the thread that launched it.
#pragma once

#include <algorithm>
#include <cmath>

#define __global__
#define __device__
#define __shared__ static __thread

struct Index {
    unsigned x, y, z;
};
static __thread Index threadIdx, blockIdx, blockDim, gridDim;

struct uchar4 {
    unsigned char x, y, z, w;
};
// Aligned as CUDA has them: a plane that is not shows here too, where the compiler uses it.
struct alignas(16) float4 {
    float x, y, z, w;
};

static inline float4 make_float4(float x, float y, float z, float w) {
    return {x, y, z, w};
}

static inline float sinpif(float x) {
    return (float)std::sin(M_PI * (double)x);
}

using std::max;
using std::min;

// Waits until all threads of the block are here.
void __syncthreads();
