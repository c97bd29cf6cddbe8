// The GPU lane's kernels. A launch does one step of a whole ragged batch: blockIdx.y is a row of a table whose entries
// are all different images, and blockIdx.x walks over the blocks of one of them. Entries that need fewer blocks than the
// largest leave the rest idle, which costs nanoseconds.
//
// Planes lie in one arena. Every offset, size and pitch here was checked against that arena by kernels.rs before the
// launch; what a kernel computes from samples is never an address.
//
//   weights ─► columns (u8 rows -> float rows) ─► rows (float -> u8) ─► sharpen (luma) ─► turn or colour
//
// The arithmetic is that of the processor's lane (workloads/src/image/pipeline): Lanczos3 over an exact fractional box,
// rounded half up; an unsharp mask on luma with the curve of libvips. kernels.rs has the tables' twins.

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

struct Resample {
    double left, top, width, height;          // the box, in samples of the source
    u64 from, middle, to;                     // bytes into the arena; the middle is of floats
    u64 weights_x, weights_y;                 // bytes into the arena
    u32 from_pitch, from_width, from_height;  // bytes, samples, rows
    u32 middle_pitch, first, columns;         // floats; the first column needed, a multiple of 4; how many, likewise
    u32 to_pitch, to_width, to_height;
    u32 taps_x, taps_y;                       // most samples that one result is made of
};

// Where the source samples of result `at` begin.
static __device__ int first_sample(double start, double step, double reach, u32 at, u32 from) {
    double begin = floor(start + (at + 0.5) * step - reach);
    return (int)fmin(fmax(begin, 0.0), (double)(from - 1));
}

static __device__ float lanczos3(float x) {
    x = fabsf(x);
    if (x >= 3.0f) return 0.0f;
    if (x < 1e-4f) return 1.0f;
    const float pi = 3.14159265358979f;
    return 3.0f * sinpif(x) * sinpif(x / 3.0f) / (pi * pi * x * x);
}

static __device__ void weigh(float *weights, double start, double len, u32 from, u32 to, u32 taps, u32 at) {
    double step = len / to, scale = fmax(step, 1.0);
    double centre = start + (at + 0.5) * step;
    int first = first_sample(start, step, 3.0 * scale, at, from);
    float sum = 0.0f;
    for (u32 tap = 0; tap < taps; tap++) {
        int sample = first + (int)tap;
        float weight = sample < (int)from ? lanczos3((float)((sample + 0.5 - centre) / scale)) : 0.0f;
        weights[(u64)tap * to + at] = weight;
        sum += weight;
    }
    for (u32 tap = 0; tap < taps; tap++) weights[(u64)tap * to + at] /= sum;
}

// A thread per result column and row: its weights, one row of the table per tap so that neighbours read neighbours.
extern "C" __global__ void weights(u8 *arena, const Resample *table) {
    const Resample &entry = table[blockIdx.y];
    u32 at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at < entry.to_width) {
        weigh((float *)(arena + entry.weights_x), entry.left, entry.width, entry.from_width, entry.to_width, entry.taps_x, at);
    } else if (at - entry.to_width < entry.to_height) {
        at -= entry.to_width;
        weigh((float *)(arena + entry.weights_y), entry.top, entry.height, entry.from_height, entry.to_height, entry.taps_y, at);
    }
}

// Blocks of 64 x 4 threads, four columns each: from the source's rows to the result's, still as wide as the source.
extern "C" __global__ void columns(u8 *arena, const Resample *table) {
    const Resample &entry = table[blockIdx.y];
    u32 across = (entry.columns + 255) / 256;
    u32 x = (blockIdx.x % across * 64 + threadIdx.x) * 4, y = blockIdx.x / across * 4 + threadIdx.y;
    if (x >= entry.columns || y >= entry.to_height) return;
    const float *weights = (const float *)(arena + entry.weights_y) + y;
    double step = entry.height / entry.to_height;
    int first = first_sample(entry.top, step, 3.0 * fmax(step, 1.0), y, entry.from_height);
    u32 taps = min(entry.taps_y, entry.from_height - first);
    const u8 *source = arena + entry.from + (u64)first * entry.from_pitch + entry.first + x;
    float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    for (u32 tap = 0; tap < taps; tap++) {
        uchar4 samples = *(const uchar4 *)source;
        float weight = weights[(u64)tap * entry.to_height];
        sum.x += weight * samples.x;
        sum.y += weight * samples.y;
        sum.z += weight * samples.z;
        sum.w += weight * samples.w;
        source += entry.from_pitch;
    }
    *(float4 *)((float *)(arena + entry.middle) + (u64)y * entry.middle_pitch + x) = sum;
}

static __device__ u8 rounded(float value) {
    return (u8)fminf(fmaxf(floorf(value + 0.5f), 0.0f), 255.0f);
}

// Blocks of 32 x 8 threads, a result each.
extern "C" __global__ void rows(u8 *arena, const Resample *table) {
    const Resample &entry = table[blockIdx.y];
    u32 across = (entry.to_width + 31) / 32;
    u32 x = blockIdx.x % across * 32 + threadIdx.x, y = blockIdx.x / across * 8 + threadIdx.y;
    if (x >= entry.to_width || y >= entry.to_height) return;
    const float *weights = (const float *)(arena + entry.weights_x) + x;
    double step = entry.width / entry.to_width;
    int first = first_sample(entry.left, step, 3.0 * fmax(step, 1.0), x, entry.from_width);
    u32 taps = min(entry.taps_x, entry.first + entry.columns - first);
    const float *source = (const float *)(arena + entry.middle) + (u64)y * entry.middle_pitch + (first - entry.first);
    float sum = 0.0f;
    for (u32 tap = 0; tap < taps; tap++) sum += weights[(u64)tap * entry.to_width] * source[tap];
    arena[entry.to + (u64)y * entry.to_pitch + x] = rounded(sum);
}

struct Sharpen {
    u64 from, to;
    u32 from_pitch, to_pitch, width, height;
    float sigma;
    u32 reach;  // taps on each side, at most REACH_MAX
};

#define REACH_MAX 21
#define TILE_X 32
#define TILE_Y 8

// Blocks of 32 x 8 threads, a tile each: the tile and its surroundings, blurred down, then across, then compared.
extern "C" __global__ void sharpen(u8 *arena, const Sharpen *table) {
    __shared__ float around[TILE_Y + 2 * REACH_MAX][TILE_X + 2 * REACH_MAX];
    __shared__ float down[TILE_Y][TILE_X + 2 * REACH_MAX];
    __shared__ float taps[REACH_MAX + 1];
    const Sharpen &entry = table[blockIdx.y];
    u32 across = (entry.width + TILE_X - 1) / TILE_X;
    int left = blockIdx.x % across * TILE_X, top = blockIdx.x / across * TILE_Y;
    if (top >= (int)entry.height) return;  // The whole block, so nobody waits at a barrier.
    int reach = entry.reach, thread = threadIdx.y * TILE_X + threadIdx.x;
    int wide = TILE_X + 2 * reach, high = TILE_Y + 2 * reach;
    if (thread <= reach) taps[thread] = expf(-(float)(thread * thread) / (2.0f * entry.sigma * entry.sigma));
    for (int at = thread; at < wide * high; at += TILE_X * TILE_Y) {
        int x = min(max(left - reach + at % wide, 0), (int)entry.width - 1);
        int y = min(max(top - reach + at / wide, 0), (int)entry.height - 1);
        around[at / wide][at % wide] = arena[entry.from + (u64)y * entry.from_pitch + x];
    }
    __syncthreads();
    float sum = taps[0];
    for (int tap = 1; tap <= reach; tap++) sum += 2.0f * taps[tap];
    for (int at = thread; at < wide * TILE_Y; at += TILE_X * TILE_Y) {
        int x = at % wide, y = at / wide + reach;
        float blurred = taps[0] * around[y][x];
        for (int tap = 1; tap <= reach; tap++) blurred += taps[tap] * (around[y - tap][x] + around[y + tap][x]);
        down[at / wide][x] = blurred / sum;
    }
    __syncthreads();
    int x = left + threadIdx.x, y = top + threadIdx.y;
    if (x >= (int)entry.width || y >= (int)entry.height) return;
    const float *row = &down[threadIdx.y][threadIdx.x + reach];
    float blurred = taps[0] * row[0];
    for (int tap = 1; tap <= reach; tap++) blurred += taps[tap] * (row[-tap] + row[tap]);
    float sample = around[threadIdx.y + reach][threadIdx.x + reach];
    float difference = sample - blurred / sum;
    float beyond = fmaxf(fabsf(difference) - 5.09375f, 0.0f) * 3.0f;
    float raise = difference < 0.0f ? -fminf(beyond, 51.0f) : fminf(beyond, 25.5f);
    arena[entry.to + (u64)y * entry.to_pitch + x] = rounded(sample + raise);
}

struct Turn {
    u64 from, to;
    u32 from_pitch, to_pitch, width, height;  // of the result
    int x0, xx, xy, y0, yx, yy;               // source x = x0 + xx * x + xy * y; source y likewise
};

// Blocks of 32 x 8 threads, a result each.
extern "C" __global__ void turn(u8 *arena, const Turn *table) {
    const Turn &entry = table[blockIdx.y];
    u32 across = (entry.width + 31) / 32;
    int x = blockIdx.x % across * 32 + threadIdx.x, y = blockIdx.x / across * 8 + threadIdx.y;
    if (x >= (int)entry.width || y >= (int)entry.height) return;
    int from_x = entry.x0 + entry.xx * x + entry.xy * y, from_y = entry.y0 + entry.yx * x + entry.yy * y;
    arena[entry.to + (u64)y * entry.to_pitch + x] = arena[entry.from + (u64)from_y * entry.from_pitch + from_x];
}

struct Colour {
    u64 luma, blue, red, to;              // three planes of the same size to packed red, green, blue
    u32 pitch, to_pitch, width, height;   // the planes' common pitch
    float matrix[12];                     // rows of red, green, blue and a constant, after the conversion
};

// Blocks of 32 x 8 threads, a pixel each: full-range BT.601 as JFIF has it (ITU-T T.871 section 7), then the matrix.
extern "C" __global__ void colour(u8 *arena, const Colour *table) {
    const Colour &entry = table[blockIdx.y];
    u32 across = (entry.width + 31) / 32;
    u32 x = blockIdx.x % across * 32 + threadIdx.x, y = blockIdx.x / across * 8 + threadIdx.y;
    if (x >= entry.width || y >= entry.height) return;
    u64 at = (u64)y * entry.pitch + x;
    float luma = arena[entry.luma + at], blue = arena[entry.blue + at] - 128.0f, red = arena[entry.red + at] - 128.0f;
    float pixel[3] = {luma + 1.402f * red, luma - 0.344136286f * blue - 0.714136286f * red, luma + 1.772f * blue};
    for (int sample = 0; sample < 3; sample++) pixel[sample] = rounded(pixel[sample]);
    u8 *to = arena + entry.to + (u64)y * entry.to_pitch + x * 3;
    for (int sample = 0; sample < 3; sample++) {
        const float *row = entry.matrix + sample * 4;
        to[sample] = rounded(row[0] * pixel[0] + row[1] * pixel[1] + row[2] * pixel[2] + row[3]);
    }
}
