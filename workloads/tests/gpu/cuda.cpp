// CUDA's driver on host memory, for tests of the GPU lane where there is no GPU: what engine/src/sys/gpu calls, and no more.
//
// Streams do everything at once, so what forgets to wait is not found. What is found: memory touched beyond its end or
// after it was freed (a page that nobody may touch lies behind each allocation), samples that nobody wrote (fresh memory
// is filled), handles that are none, threads without a context, and barriers that not all threads of a block reach.

#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include <atomic>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "fake.h"
#include "kernels.h"

// The kernels themselves.
#include "image.cu"

typedef int Result;

enum {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_CONTEXT = 201,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    ILLEGAL_ADDRESS = 700,
};

static const size_t PAGE = 4096;
// What an H100 has.
static const long long MEMORY_BYTES = 80LL << 30;
static const unsigned char FRESH = 0xA5;

// Faults.

static std::string beside(const char *name) {
    Dl_info info;
    if (!dladdr((void *)fake_take, &info)) abort();
    std::string path = info.dli_fname;
    return path.substr(0, path.rfind('/') + 1) + name;
}

bool fake_take(const char *fault) {
    std::string path = beside(fault), taken = path + ".taken";
    return rename(path.c_str(), taken.c_str()) == 0;
}

long long fake_lasting(const char *fault, long long otherwise) {
    FILE *file = fopen(beside(fault).c_str(), "re");
    if (!file) return otherwise;
    long long number = otherwise;
    if (fscanf(file, "%lld", &number) != 1) number = otherwise;
    fclose(file);
    return number;
}

void fake_log(const char *format, ...) {
    char line[256];
    va_list words;
    va_start(words, format);
    int len = vsnprintf(line, sizeof line - 1, format, words);
    va_end(words);
    line[len++] = '\n';
    int file = open(beside("log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (file < 0 || write(file, line, len) != len) abort();
    close(file);
}

static std::atomic<bool> broken;

void fake_break() {
    broken = true;
}

bool fake_is_broken() {
    return broken;
}

// Handles. Each is the address of a byte of its own.

static std::mutex lock;
static std::set<void *> handles;
static char the_context;
static __thread void *current;

static void *new_handle() {
    std::lock_guard<std::mutex> held(lock);
    return *handles.insert(malloc(1)).first;
}

static bool is_handle(void *handle) {
    std::lock_guard<std::mutex> held(lock);
    return handles.count(handle) > 0;
}

static Result end_handle(void *handle) {
    std::lock_guard<std::mutex> held(lock);
    if (!handles.erase(handle)) return INVALID_HANDLE;
    free(handle);
    return SUCCESS;
}

bool fake_has_context() {
    return current == &the_context;
}

// What every call answers before it does anything.
#define IN_ORDER \
    if (broken) return ILLEGAL_ADDRESS
#define IN_CONTEXT \
    IN_ORDER;      \
    if (!current) return INVALID_CONTEXT

// The device.

EXPORTED Result cuInit(unsigned) {
    if (fake_lasting("start-hangs", 0)) {
        for (;;) pause();
    }
    if (fake_lasting("no-device", 0)) return NO_DEVICE;
    return (Result)fake_lasting("start-fails", SUCCESS);
}

EXPORTED Result cuGetErrorString(Result error, const char **words) {
    static const std::map<Result, const char *> ALL = {
        {SUCCESS, "no error"},
        {INVALID_VALUE, "invalid argument"},
        {OUT_OF_MEMORY, "out of memory"},
        {NO_DEVICE, "no CUDA-capable device is detected"},
        {INVALID_DEVICE, "invalid device ordinal"},
        {INVALID_CONTEXT, "invalid device context"},
        {INVALID_HANDLE, "invalid resource handle"},
        {NOT_FOUND, "named symbol not found"},
        {ILLEGAL_ADDRESS, "an illegal memory access was encountered"},
    };
    auto found = ALL.find(error);
    if (found == ALL.end()) return INVALID_VALUE;
    *words = found->second;
    return SUCCESS;
}

EXPORTED Result cuDriverGetVersion(int *version) {
    *version = 13000;
    return SUCCESS;
}

EXPORTED Result cuDeviceGetCount(int *count) {
    *count = 1;
    return SUCCESS;
}

EXPORTED Result cuDeviceGet(int *device, int ordinal) {
    *device = ordinal;
    return ordinal == 0 ? SUCCESS : INVALID_DEVICE;
}

EXPORTED Result cuDeviceGetName(char *name, int len, int) {
    snprintf(name, len, "a fake of the tests");
    return SUCCESS;
}

EXPORTED Result cuDeviceGetAttribute(int *value, int which, int) {
    // The compute capability's two halves; nothing else is asked.
    if (which != 75 && which != 76) return INVALID_VALUE;
    *value = which == 75 ? 9 : 0;
    return SUCCESS;
}

static long long memory_bytes() {
    return fake_lasting("memory", MEMORY_BYTES);
}

EXPORTED Result cuDeviceTotalMem_v2(size_t *bytes, int) {
    *bytes = memory_bytes();
    return SUCCESS;
}

EXPORTED Result cuDevicePrimaryCtxSetFlags_v2(int, unsigned) {
    IN_ORDER;
    return SUCCESS;
}

EXPORTED Result cuDevicePrimaryCtxRetain(void **context, int) {
    IN_ORDER;
    *context = &the_context;
    return SUCCESS;
}

EXPORTED Result cuDevicePrimaryCtxRelease_v2(int) {
    IN_ORDER;
    return SUCCESS;
}

EXPORTED Result cuCtxSetCurrent(void *context) {
    IN_ORDER;
    if (context && context != &the_context) return INVALID_CONTEXT;
    current = context;
    return SUCCESS;
}

EXPORTED Result cuCtxGetCurrent(void **context) {
    IN_ORDER;
    *context = current;
    return SUCCESS;
}

// Memory.

struct Mapped {
    void *base;
    size_t len, bytes;
};
static std::map<uintptr_t, Mapped> mapped;
static std::map<uintptr_t, size_t> registered;
static long long used;

// Its end lies at a page that nobody may touch.
static uintptr_t map_bytes(size_t bytes) {
    size_t room = (bytes + 255) / 256 * 256, len = (room + PAGE - 1) / PAGE * PAGE;
    void *base = mmap(nullptr, len + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return 0;
    if (mprotect((char *)base + len, PAGE, PROT_NONE)) abort();
    uintptr_t start = (uintptr_t)base + len - room;
    // The beginning of what is large says as much, and takes no memory for the rest.
    memset((void *)start, FRESH, std::min(bytes, (size_t)16 << 20));
    mapped[start] = {base, len + PAGE, bytes};
    return start;
}

static Result unmap(uintptr_t start, size_t *bytes) {
    auto found = mapped.find(start);
    if (found == mapped.end()) return INVALID_VALUE;
    *bytes = found->second.bytes;
    munmap(found->second.base, found->second.len);
    mapped.erase(found);
    return SUCCESS;
}

EXPORTED Result cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
    IN_CONTEXT;
    std::lock_guard<std::mutex> held(lock);
    *total = memory_bytes();
    *free_bytes = std::max(memory_bytes() - used, 0LL);
    return SUCCESS;
}

EXPORTED Result cuMemAlloc_v2(uintptr_t *start, size_t bytes) {
    IN_CONTEXT;
    std::lock_guard<std::mutex> held(lock);
    // Another process may have taken what was free a moment ago.
    long long most = std::min(memory_bytes(), fake_lasting("cramped", MEMORY_BYTES));
    if (bytes == 0) return INVALID_VALUE;
    if (used + (long long)bytes > most) return OUT_OF_MEMORY;
    *start = map_bytes(bytes);
    if (!*start) return OUT_OF_MEMORY;
    used += bytes;
    return SUCCESS;
}

EXPORTED Result cuMemFree_v2(uintptr_t start) {
    IN_ORDER;
    std::lock_guard<std::mutex> held(lock);
    size_t bytes = 0;
    Result ended = unmap(start, &bytes);
    used -= bytes;
    return ended;
}

EXPORTED Result cuMemHostAlloc(void **start, size_t bytes, unsigned) {
    IN_CONTEXT;
    std::lock_guard<std::mutex> held(lock);
    *start = (void *)map_bytes(bytes);
    return *start ? SUCCESS : OUT_OF_MEMORY;
}

EXPORTED Result cuMemFreeHost(void *start) {
    IN_ORDER;
    std::lock_guard<std::mutex> held(lock);
    size_t bytes = 0;
    return unmap((uintptr_t)start, &bytes);
}

EXPORTED Result cuMemHostRegister_v2(void *start, size_t bytes, unsigned) {
    IN_CONTEXT;
    std::lock_guard<std::mutex> held(lock);
    if (!start || bytes == 0) return INVALID_VALUE;
    return registered.emplace((uintptr_t)start, bytes).second ? SUCCESS : INVALID_VALUE;
}

EXPORTED Result cuMemHostUnregister(void *start) {
    IN_ORDER;
    std::lock_guard<std::mutex> held(lock);
    return registered.erase((uintptr_t)start) ? SUCCESS : INVALID_VALUE;
}

static Result copy(void *to, const void *from, size_t bytes) {
    IN_CONTEXT;
    memcpy(to, from, bytes);
    return SUCCESS;
}

EXPORTED Result cuMemcpyHtoD_v2(uintptr_t to, const void *from, size_t bytes) {
    return copy((void *)to, from, bytes);
}

EXPORTED Result cuMemcpyDtoH_v2(void *to, uintptr_t from, size_t bytes) {
    return copy(to, (void *)from, bytes);
}

EXPORTED Result cuMemcpyHtoDAsync_v2(uintptr_t to, const void *from, size_t bytes, void *stream) {
    return is_handle(stream) ? copy((void *)to, from, bytes) : INVALID_HANDLE;
}

EXPORTED Result cuMemcpyDtoHAsync_v2(void *to, uintptr_t from, size_t bytes, void *stream) {
    return is_handle(stream) ? copy(to, (void *)from, bytes) : INVALID_HANDLE;
}

// Streams and events.

EXPORTED Result cuStreamCreate(void **stream, unsigned) {
    IN_CONTEXT;
    *stream = new_handle();
    return SUCCESS;
}

EXPORTED Result cuStreamSynchronize(void *stream) {
    IN_ORDER;
    return is_handle(stream) ? SUCCESS : INVALID_HANDLE;
}

EXPORTED Result cuStreamQuery(void *stream) {
    return cuStreamSynchronize(stream);
}

EXPORTED Result cuStreamWaitEvent(void *stream, void *event, unsigned) {
    IN_ORDER;
    return is_handle(stream) && is_handle(event) ? SUCCESS : INVALID_HANDLE;
}

EXPORTED Result cuStreamDestroy_v2(void *stream) {
    IN_ORDER;
    return end_handle(stream);
}

EXPORTED Result cuEventCreate(void **event, unsigned) {
    IN_CONTEXT;
    *event = new_handle();
    return SUCCESS;
}

EXPORTED Result cuEventRecord(void *event, void *stream) {
    IN_ORDER;
    return is_handle(event) && is_handle(stream) ? SUCCESS : INVALID_HANDLE;
}

EXPORTED Result cuEventSynchronize(void *event) {
    IN_ORDER;
    return is_handle(event) ? SUCCESS : INVALID_HANDLE;
}

EXPORTED Result cuEventElapsedTime(float *ms, void *start, void *end) {
    IN_ORDER;
    *ms = 0.0f;
    return is_handle(start) && is_handle(end) ? SUCCESS : INVALID_HANDLE;
}

EXPORTED Result cuEventDestroy_v2(void *event) {
    IN_ORDER;
    return end_handle(event);
}

// Kernels.

struct Kernel {
    const char *name;
    void (*run)(u8 *arena, const void *table);
    bool has_barriers;
};

static const Kernel KERNELS[] = {
    {"weights", [](u8 *arena, const void *table) { weights(arena, (const Resample *)table); }, false},
    {"columns", [](u8 *arena, const void *table) { columns(arena, (const Resample *)table); }, false},
    {"rows", [](u8 *arena, const void *table) { rows(arena, (const Resample *)table); }, false},
    {"sharpen", [](u8 *arena, const void *table) { sharpen(arena, (const Sharpen *)table); }, true},
    {"turn", [](u8 *arena, const void *table) { turn(arena, (const Turn *)table); }, false},
    {"colour", [](u8 *arena, const void *table) { colour(arena, (const Colour *)table); }, false},
};

// The threads of a block that has barriers: each has a stack, and they take turns from barrier to barrier.
struct Block {
    static const size_t STACK_BYTES = 32 << 10;

    struct Thread {
        ucontext_t at;
        std::vector<char> stack;
        bool ended;
    };

    const Kernel *kernel;
    u8 *arena;
    const void *table;
    std::vector<Thread> threads;
    ucontext_t scheduler;
    size_t turn;

    static __thread Block *running;

    Block(const Kernel *kernel, u8 *arena, const void *table, size_t count)
        : kernel(kernel), arena(arena), table(table), threads(count), turn(0) {
        for (Thread &thread : threads) {
            thread.stack.resize(STACK_BYTES);
            getcontext(&thread.at);
            thread.at.uc_stack.ss_sp = thread.stack.data();
            thread.at.uc_stack.ss_size = STACK_BYTES;
            thread.at.uc_link = &scheduler;
        }
    }

    static void body() {
        Block *block = running;
        block->kernel->run(block->arena, block->table);
        block->threads[block->turn].ended = true;
    }

    void run() {
        running = this;
        for (Thread &thread : threads) {
            thread.ended = false;
            makecontext(&thread.at, body, 0);
        }
        size_t ended = 0;
        while (ended < threads.size()) {
            for (turn = 0; turn < threads.size(); turn++) {
                threadIdx = {(unsigned)turn % blockDim.x, (unsigned)turn / blockDim.x, 0};
                swapcontext(&scheduler, &threads[turn].at);
                ended += threads[turn].ended;
            }
            if (ended > 0 && ended < threads.size()) {
                fprintf(stderr, "a barrier of %s that not all threads reach\n", kernel->name);
                abort();
            }
        }
        running = nullptr;
    }

    void barrier() {
        swapcontext(&threads[turn].at, &scheduler);
    }
};

__thread Block *Block::running;

// Apart, so that nothing of a thread's own is remembered across it.
__attribute__((noinline)) void __syncthreads() {
    if (!Block::running) {
        fprintf(stderr, "a kernel has barriers and is not said to\n");
        abort();
    }
    Block::running->barrier();
}

EXPORTED Result cuModuleLoadData(void **module, const void *image) {
    IN_CONTEXT;
    // What the driver would compile must at least be what it can.
    if (strncmp((const char *)image, "//", 2) && strncmp((const char *)image, ".version", 8)) return INVALID_VALUE;
    *module = new_handle();
    return SUCCESS;
}

EXPORTED Result cuModuleGetFunction(const void **function, void *module, const char *name) {
    IN_CONTEXT;
    if (!is_handle(module)) return INVALID_HANDLE;
    for (const Kernel &kernel : KERNELS) {
        if (!strcmp(kernel.name, name)) {
            *function = &kernel;
            return SUCCESS;
        }
    }
    return NOT_FOUND;
}

EXPORTED Result cuModuleUnload(void *module) {
    IN_ORDER;
    return end_handle(module);
}

EXPORTED Result cuLaunchKernel(
    const void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
    unsigned block_z, unsigned, void *stream, void **arguments, void **) {
    IN_CONTEXT;
    if (!is_handle(stream)) return INVALID_HANDLE;
    const Kernel *kernel = (const Kernel *)function;
    bool is_sound = grid_x > 0 && grid_y > 0 && grid_y <= 65535 && grid_z == 1 && block_x > 0 && block_y > 0 &&
                    block_z == 1 && block_x * block_y <= 1024;
    if (!is_sound || kernel < KERNELS || kernel >= std::end(KERNELS)) return INVALID_VALUE;
    u8 *arena = *(u8 **)arguments[0];
    const void *table = *(const void **)arguments[1];
    gridDim = {grid_x, grid_y, 1};
    blockDim = {block_x, block_y, 1};
    Block together(kernel, arena, table, kernel->has_barriers ? block_x * block_y : 0);
    for (unsigned y = 0; y < grid_y; y++) {
        for (unsigned x = 0; x < grid_x; x++) {
            blockIdx = {x, y, 0};
            if (kernel->has_barriers) {
                together.run();
                continue;
            }
            for (unsigned thread = 0; thread < block_x * block_y; thread++) {
                threadIdx = {thread % block_x, thread / block_x, 0};
                kernel->run(arena, table);
            }
        }
    }
    return SUCCESS;
}
