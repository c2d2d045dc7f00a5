// The libraries libcuda and libnvrtc with the emulator as their device: what the crate calls, and no more.
//
// So the code that talks to a device runs on a machine without one: stand-in builds the library, and whoever finds it in
// LD_LIBRARY_PATH runs on it. Nothing runs before something waits for it; addresses outside an allocation are faults, as are calls
// that may not come while a stream is recorded, calls without a context, work after a copy from the host that nobody waited for,
// modules unloaded before their kernels ran, and kernels compiled without the options that the emulator takes for granted. It does
// not know how many arguments the caller wrote, nor, without a true NVRTC, alignment and static shared memory.
//
// FWPKM_STAND_IN: words like `devices=0 driver=12080 nvrtc=12090 capability=75 memory=1000000`, each optional;
// `contexts=9`: a context is not made more often, which on a device takes longer than most tests.
// FWPKM_STAND_IN_NVRTC: the path of a true libnvrtc.so. Then its PTX runs (ptx.hpp), not what the host's compiler makes of the
// kernels.
#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "interface.hpp"
#include "ptx.hpp"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

enum Result {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
    LAUNCH_FAILED = 719,
    COOPERATIVE_LAUNCH_TOO_LARGE = 720,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901,
};

struct Named {
    Result result;
    const char *name, *meaning;
};
const Named NAMED[] = {
    {SUCCESS, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {COOPERATIVE_LAUNCH_TOO_LARGE, "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE", "too many blocks in cooperative launch"},
    {CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
};

// A word of FWPKM_STAND_IN, or what holds without it.
uint64_t configured(const char* word, uint64_t otherwise) {
    const char* text = std::getenv("FWPKM_STAND_IN");
    std::istringstream words(text ? text : "");
    for (std::string one; words >> one;)
        if (one.compare(0, std::strlen(word) + 1, std::string(word) + "=") == 0)
            return std::strtoull(one.c_str() + std::strlen(word) + 1, nullptr, 10);
    return otherwise;
}

constexpr uint64_t MULTIPROCESSORS = 2, BLOCKS_EACH = 2, MOST_THREADS = 1024, MOST_SHARED = 48 << 10, MOST_GRID = (1u << 31) - 1;

struct Allocation {
    emulator::Memory* memory;
    size_t bytes;
};

struct Module {
    std::vector<std::string> names;
    std::vector<double> values;
    std::unique_ptr<ptx::Program> program;  // instead, of a true NVRTC
};

struct Function {
    const Module* module;
    std::string kernel;
    std::vector<unsigned char> bytes;  // of each parameter; one of 8 is an address
    const ptx::Kernel* compiled = nullptr;
};

struct Event {
    bool timed = false, recorded = false, passed = false;
    std::chrono::steady_clock::time_point at;
};

struct Launch {
    const Function* function;
    unsigned grid, block;
    size_t shared;
    bool cooperative;
    std::vector<uint64_t> arguments;
};

// What a stream does, in order.
struct Operation {
    enum { WRITE, READ, COPY, FILL, KERNEL, MOMENT } what;
    uint64_t to = 0, from = 0;
    size_t bytes = 0;
    void* host = nullptr;
    std::vector<char> numbers;  // to write, or to fill with
    Launch launch{};
    Event* event = nullptr;
};

struct Graph {
    std::vector<Operation> operations;
};

struct Stream {
    std::vector<Operation> waiting;
    bool capturing = false, invalidated = false;
    std::thread::id recorder;
    Graph* graph = nullptr;
};

std::recursive_mutex mutex;
bool initialised = false;
constexpr int MOST_DEVICES = 8;
int retained = 0, contexts[MOST_DEVICES];  // the address of an element is the context of a device
uint64_t times_made = 0;
thread_local void* current = nullptr;
Result broken = SUCCESS;  // the first fault of the device; every later call gives it
uint64_t next_address = 0x7f0000000000, seed = 1, used = 0;
std::map<uint64_t, Allocation> allocations;
std::vector<Stream*> streams;

Result complain(Result result, const std::string& why) {
    std::fprintf(stderr, "stand-in driver: %s\n", why.c_str());
    return result;
}

uint64_t memory_size() { return configured("memory", uint64_t(4) << 30); }

// The allocation that holds so many bytes from an address on.
bool find(uint64_t address, size_t bytes, Allocation& found, size_t& offset) {
    auto after = allocations.upper_bound(address);
    if (after == allocations.begin()) return false;
    --after;
    offset = address - after->first;
    found = after->second;
    return offset <= found.bytes && bytes <= found.bytes - offset;
}

Result fault(const std::string& why) { return broken = complain(ILLEGAL_ADDRESS, why); }

Result perform(const Launch& launch) {
    if (launch.function->compiled) {
        const std::string wrong = ptx::run(
            *launch.function->compiled,
            {launch.function->kernel.c_str(), launch.grid, launch.block, launch.shared, launch.cooperative, seed++}, launch.arguments,
            [](uint64_t address, size_t bytes, size_t& offset) {
                Allocation of{};
                return find(address, bytes, of, offset) ? of.memory : nullptr;
            });
        return wrong.empty() ? SUCCESS : (broken = complain(LAUNCH_FAILED, wrong));
    }
    std::vector<emulator::Argument> arguments;
    for (size_t i = 0; i < launch.arguments.size(); i++) {
        emulator::Argument argument{launch.arguments[i], 0, launch.function->bytes[i] == 8};
        if (argument.is_memory) {
            Allocation of;
            size_t offset;
            // One past the end is an address that a kernel may be given, and not use.
            if (!find(launch.arguments[i], 0, of, offset))
                return fault(launch.function->kernel + ": argument " + std::to_string(i) + " is no address");
            argument.value = reinterpret_cast<uint64_t>(of.memory), argument.offset = offset;
        }
        arguments.push_back(argument);
    }
    std::vector<const char*> names;
    for (const std::string& name : launch.function->module->names) names.push_back(name.c_str());
    char error[1024] = "";
    bool good = emulator_launch(launch.function->kernel.c_str(), names.data(), launch.function->module->values.data(),
                                names.size(), launch.grid, launch.block, launch.shared, launch.cooperative, seed++,
                                arguments.data(), arguments.size(), error, sizeof error);
    return good ? SUCCESS : (broken = complain(LAUNCH_FAILED, error));
}

Result perform(Operation& operation) {
    Allocation to{}, from{};
    size_t to_offset = 0, from_offset = 0, bytes = operation.bytes;
    if (operation.to && !find(operation.to, bytes, to, to_offset)) return fault("a copy or fill beyond an allocation");
    if (operation.from && !find(operation.from, bytes, from, from_offset)) return fault("a copy from beyond an allocation");
    switch (operation.what) {
        case Operation::WRITE:
        case Operation::FILL: emulator_write(to.memory, to_offset, operation.numbers.data(), bytes); break;
        case Operation::READ:
            if (!emulator_read(from.memory, from_offset, operation.host, bytes)) return fault("a copy of what nobody wrote");
            break;
        case Operation::COPY: emulator_copy(to.memory, to_offset, from.memory, from_offset, bytes); break;
        case Operation::KERNEL: return perform(operation.launch);
        case Operation::MOMENT: operation.event->passed = true, operation.event->at = std::chrono::steady_clock::now();
    }
    return SUCCESS;
}

Result wait(Stream& stream) {
    std::vector<Operation> waiting;
    waiting.swap(stream.waiting);
    for (Operation& operation : waiting)
        if (broken != SUCCESS || perform(operation) != SUCCESS) return broken;
    return SUCCESS;
}

// Whatever waits for the whole device.
Result wait() {
    for (Stream* stream : streams)
        if (Result result = wait(*stream)) return result;
    return SUCCESS;
}

// When a call may come, beside between the beginning and the end of a recording: what waits or allocates must not come from the
// thread that records, what waits for the whole device from no thread.
enum Allowed { ALWAYS, WHILE_OTHERS_RECORD, WHILE_NOBODY_RECORDS };

Result allowed(const char* call, Allowed when = ALWAYS) {
    if (!initialised) return complain(NOT_INITIALIZED, std::string(call) + " before cuInit");
    if (!current || !retained) return complain(INVALID_CONTEXT, std::string(call) + " without a context");
    for (Stream* stream : streams) {
        const bool ours = stream->recorder == std::this_thread::get_id();
        if (when == ALWAYS || !stream->capturing || (when == WHILE_OTHERS_RECORD && !ours)) continue;
        stream->invalidated = true;
        return complain(CAPTURE_UNSUPPORTED, std::string(call) + " while a stream is recorded");
    }
    return broken;
}

Result enqueue(void* handle, Operation operation) {
    Stream& stream = *static_cast<Stream*>(handle);
    if (!handle) return complain(INVALID_HANDLE, "the default stream is not to be used");
    // The host may be changing its memory by now.
    if (!stream.capturing && !stream.waiting.empty() && stream.waiting.back().what == Operation::WRITE)
        return complain(INVALID_VALUE, "work after a copy from the host's memory that nobody waited for");
    (stream.capturing ? stream.graph->operations : stream.waiting).push_back(std::move(operation));
    return SUCCESS;
}

Result enqueue_launch(const char* call, void* function, const unsigned* grid, const unsigned* block, unsigned shared, void* stream,
                      void** parameters, bool cooperative) {
    if (Result result = allowed(call)) return result;
    Operation operation{Operation::KERNEL};
    operation.launch = {static_cast<Function*>(function), grid[0], block[0], shared, cooperative, {}};
    if (grid[0] < 1 || grid[0] > MOST_GRID || grid[1] != 1 || grid[2] != 1 || block[0] < 1 || block[0] > MOST_THREADS ||
        block[1] != 1 || block[2] != 1 || shared > MOST_SHARED)
        return complain(INVALID_VALUE, operation.launch.function->kernel + ": a grid, block or shared memory that no device takes");
    if (cooperative && grid[0] > MULTIPROCESSORS * BLOCKS_EACH)
        return complain(COOPERATIVE_LAUNCH_TOO_LARGE, operation.launch.function->kernel);
    for (size_t i = 0; i < operation.launch.function->bytes.size(); i++) {
        uint64_t value = 0;
        std::memcpy(&value, parameters[i], operation.launch.function->bytes[i]);
        operation.launch.arguments.push_back(value);
    }
    return enqueue(stream, operation);
}

}  // namespace

EXPORT int cuInit(unsigned) {
    std::lock_guard lock(mutex);
    initialised = true;
    return configured("devices", 1) == 0 ? NO_DEVICE : SUCCESS;
}
EXPORT int cuDriverGetVersion(int* version) { return *version = int(configured("driver", 13990)), SUCCESS; }
// NVRTC asks the driver of its machine for what is in no header, and does without.
EXPORT int cuGetExportTable(const void** table, const void*) { return *table = nullptr, NOT_FOUND; }
EXPORT int cuDeviceGetCount(int* count) { return *count = int(configured("devices", 1)), initialised ? SUCCESS : NOT_INITIALIZED; }
EXPORT int cuDeviceGet(int* device, int ordinal) {
    const int count = std::min(int(configured("devices", 1)), MOST_DEVICES);
    return *device = ordinal, ordinal >= 0 && ordinal < count ? SUCCESS : INVALID_DEVICE;
}
EXPORT int cuDeviceGetName(char* name, int length, int) { return std::snprintf(name, size_t(length), "no GPU, the emulator"), SUCCESS; }
EXPORT int cuDeviceTotalMem_v2(size_t* bytes, int) { return *bytes = memory_size(), SUCCESS; }
EXPORT int cuDeviceGetAttribute(int* value, int attribute, int) {
    const int capability = int(configured("capability", 90));
    switch (attribute) {
        case 16: *value = MULTIPROCESSORS; break;
        case 75: *value = capability / 10; break;
        case 76: *value = capability % 10; break;
        case 95: *value = 1; break;   // cooperative launches
        case 115: *value = 0; break;  // memory pools
        default: return complain(INVALID_VALUE, "attribute " + std::to_string(attribute) + " of a device");
    }
    return SUCCESS;
}
EXPORT int cuDevicePrimaryCtxRetain(void** made, int device) {
    std::lock_guard lock(mutex);
    if (retained == 0 && ++times_made > configured("contexts", UINT64_MAX))
        return complain(INVALID_VALUE, "the context of a device made " + std::to_string(times_made) + " times");
    return retained++, *made = &contexts[device], SUCCESS;
}
EXPORT int cuDevicePrimaryCtxRelease_v2(int) {
    std::lock_guard lock(mutex);
    if (--retained == 0 && !allocations.empty())
        return complain(INVALID_VALUE, std::to_string(allocations.size()) + " allocations were never freed");
    return SUCCESS;
}
EXPORT int cuCtxSetCurrent(void* to) { return current = to, SUCCESS; }
EXPORT int cuCtxGetCurrent(void** to) { return *to = current, SUCCESS; }
EXPORT int cuCtxSynchronize() {
    std::lock_guard lock(mutex);
    if (Result result = allowed("cuCtxSynchronize", WHILE_NOBODY_RECORDS)) return result;
    return wait();
}
EXPORT int cuGetErrorName(int result, const char** name) {
    for (const Named& named : NAMED)
        if (named.result == result) return *name = named.name, SUCCESS;
    return *name = nullptr, INVALID_VALUE;
}
EXPORT int cuGetErrorString(int result, const char** meaning) {
    for (const Named& named : NAMED)
        if (named.result == result) return *meaning = named.meaning, SUCCESS;
    return *meaning = nullptr, INVALID_VALUE;
}

EXPORT int cuMemAlloc_v2(uint64_t* address, size_t bytes) {
    std::lock_guard lock(mutex);
    if (Result result = allowed("cuMemAlloc", WHILE_OTHERS_RECORD)) return result;
    if (bytes == 0) return complain(INVALID_VALUE, "cuMemAlloc of 0 bytes");
    if (bytes > memory_size() - used) return OUT_OF_MEMORY;
    emulator::Memory* memory = emulator_allocate("device memory", bytes);
    if (!memory) return OUT_OF_MEMORY;
    *address = next_address;
    allocations[next_address] = {memory, bytes};
    next_address += (bytes / 512 + 2) * 512;  // aligned as a device's, with a gap
    used += bytes;
    return SUCCESS;
}
EXPORT int cuMemFree_v2(uint64_t address) {
    std::lock_guard lock(mutex);
    if (Result result = allowed("cuMemFree", WHILE_OTHERS_RECORD)) return result;
    if (Result result = wait()) return result;
    auto found = allocations.find(address);
    if (found == allocations.end()) return complain(INVALID_VALUE, "cuMemFree of what was not allocated");
    used -= found->second.bytes;
    emulator_free(found->second.memory);
    allocations.erase(found);
    return SUCCESS;
}
EXPORT int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, void* stream) {
    std::lock_guard lock(mutex);
    if (Result result = allowed("cuMemcpyHtoDAsync of pageable memory", WHILE_OTHERS_RECORD)) return result;
    Operation operation{Operation::WRITE, to, 0, bytes};
    operation.numbers.assign(static_cast<const char*>(from), static_cast<const char*>(from) + bytes);
    return enqueue(stream, operation);
}
EXPORT int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, void* stream) {
    std::lock_guard lock(mutex);
    if (Result result = allowed("cuMemcpyDtoHAsync of pageable memory", WHILE_OTHERS_RECORD)) return result;
    return enqueue(stream, {Operation::READ, 0, from, bytes, to});
}
EXPORT int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void* stream) {
    std::lock_guard lock(mutex);
    if (Result result = allowed("cuMemcpyDtoDAsync")) return result;
    if (to < from + bytes && from < to + bytes && bytes > 0) return complain(INVALID_VALUE, "a copy onto itself");
    return enqueue(stream, {Operation::COPY, to, from, bytes});
}
EXPORT int cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, void* stream) {
    std::lock_guard lock(mutex);
    if (Result result = allowed("cuMemsetD8Async")) return result;
    Operation operation{Operation::FILL, to, 0, bytes};
    operation.numbers.assign(bytes, char(value));
    return enqueue(stream, operation);
}

EXPORT int cuStreamCreate(void** made, unsigned) {
    std::lock_guard lock(mutex);
    if (Result result = allowed("cuStreamCreate", WHILE_OTHERS_RECORD)) return result;
    auto* stream = new Stream;
    streams.push_back(stream);
    return *made = stream, SUCCESS;
}
EXPORT int cuStreamDestroy_v2(void* handle) {
    std::lock_guard lock(mutex);
    auto* stream = static_cast<Stream*>(handle);
    Result result = wait(*stream);
    streams.erase(std::remove(streams.begin(), streams.end(), stream), streams.end());
    delete stream;
    return result;
}
EXPORT int cuStreamSynchronize(void* stream) {
    std::lock_guard lock(mutex);
    if (Result result = allowed("cuStreamSynchronize", WHILE_OTHERS_RECORD)) return result;
    return wait(*static_cast<Stream*>(stream));
}
EXPORT int cuStreamBeginCapture_v2(void* handle, int) {
    std::lock_guard lock(mutex);
    if (Result result = allowed("cuStreamBeginCapture", WHILE_OTHERS_RECORD)) return result;
    auto& stream = *static_cast<Stream*>(handle);
    stream.capturing = true, stream.invalidated = false, stream.recorder = std::this_thread::get_id(), stream.graph = new Graph;
    return SUCCESS;
}
EXPORT int cuStreamEndCapture(void* handle, void** made) {
    std::lock_guard lock(mutex);
    auto& stream = *static_cast<Stream*>(handle);
    if (!stream.capturing) return complain(INVALID_VALUE, "cuStreamEndCapture without a beginning");
    stream.capturing = false;
    if (stream.invalidated) return delete stream.graph, *made = nullptr, CAPTURE_INVALIDATED;
    return *made = stream.graph, SUCCESS;
}

EXPORT int cuGraphInstantiateWithFlags(void** made, void* graph, unsigned long long) {
    std::lock_guard lock(mutex);
    return *made = new Graph(*static_cast<Graph*>(graph)), SUCCESS;
}
EXPORT int cuGraphLaunch(void* graph, void* stream) {
    std::lock_guard lock(mutex);
    if (Result result = allowed("cuGraphLaunch", WHILE_OTHERS_RECORD)) return result;
    for (const Operation& operation : static_cast<Graph*>(graph)->operations)
        if (Result result = enqueue(stream, operation)) return result;
    return SUCCESS;
}
EXPORT int cuGraphDestroy(void* graph) { return delete static_cast<Graph*>(graph), SUCCESS; }
EXPORT int cuGraphExecDestroy(void* graph) { return delete static_cast<Graph*>(graph), SUCCESS; }

EXPORT int cuEventCreate(void** made, unsigned flags) {
    auto* event = new Event;
    event->timed = !(flags & 2);
    return *made = event, SUCCESS;
}
EXPORT int cuEventDestroy_v2(void* event) {
    std::lock_guard lock(mutex);
    if (Result result = wait()) return result;
    return delete static_cast<Event*>(event), SUCCESS;
}
EXPORT int cuEventRecord(void* event, void* stream) {
    std::lock_guard lock(mutex);
    if (Result result = allowed("cuEventRecord", WHILE_OTHERS_RECORD)) return result;
    static_cast<Event*>(event)->recorded = true;
    Operation operation{Operation::MOMENT};
    operation.event = static_cast<Event*>(event);
    return enqueue(stream, operation);
}
EXPORT int cuEventSynchronize(void* event) {
    std::lock_guard lock(mutex);
    if (Result result = allowed("cuEventSynchronize", WHILE_OTHERS_RECORD)) return result;
    return static_cast<Event*>(event)->recorded ? wait() : SUCCESS;
}
EXPORT int cuEventElapsedTime_v2(float* milliseconds, void* from, void* to) {
    auto &first = *static_cast<Event*>(from), &last = *static_cast<Event*>(to);
    if (!first.timed || !last.timed || !first.recorded || !last.recorded) return complain(INVALID_HANDLE, "an event without time");
    if (!first.passed || !last.passed) return NOT_READY;
    return *milliseconds = std::chrono::duration<float, std::milli>(last.at - first.at).count(), SUCCESS;
}

// An image is a magic word, then lines `NAME=value`, or PTX.
static const char MAGIC[] = "\177ELF fwpkm stand-in", MAGIC_PTX[] = "\177ELF fwpkm stand-in, PTX";

EXPORT int cuModuleLoadData(void** made, const void* image) {
    std::lock_guard lock(mutex);
    if (Result result = allowed("cuModuleLoadData", WHILE_OTHERS_RECORD)) return result;
    std::istringstream lines(static_cast<const char*>(image));
    std::string line;
    if (!std::getline(lines, line) || (line != MAGIC && line != MAGIC_PTX))
        return complain(INVALID_IMAGE, "an image that nvrtc did not make here");
    if ((line == MAGIC_PTX) != (std::getenv("FWPKM_STAND_IN_NVRTC") != nullptr))
        return complain(INVALID_IMAGE, "an image of the other compiler, from before FWPKM_STAND_IN_NVRTC changed: empty the cache");
    auto* module = new Module;
    if (line == MAGIC_PTX) {
        try {
            module->program = ptx::read(static_cast<const char*>(image) + sizeof MAGIC_PTX);
        } catch (const ptx::Malformed& malformed) {
            return delete module, complain(INVALID_IMAGE, malformed.what());
        }
    } else while (std::getline(lines, line)) {
        size_t equals = line.find('=');
        module->names.push_back(line.substr(0, equals));
        module->values.push_back(std::strtod(line.c_str() + equals + 1, nullptr));
    }
    return *made = module, SUCCESS;
}
EXPORT int cuModuleUnload(void* module) {
    std::lock_guard lock(mutex);
    for (const Stream* stream : streams)
        for (const Operation& operation : stream->waiting)
            if (operation.what == Operation::KERNEL && operation.launch.function->module == module)
                complain(INVALID_VALUE, "cuModuleUnload before " + operation.launch.function->kernel + " ran");
    if (Result result = wait()) return result;
    return delete static_cast<Module*>(module), SUCCESS;
}
EXPORT int cuModuleGetFunction(void** made, void* module, const char* name) {
    std::lock_guard lock(mutex);
    if (Result result = allowed("cuModuleGetFunction")) return result;
    // Functions live as long as the process, as handles of a module that is never unloaded twice.
    auto* function = new Function{static_cast<Module*>(module), name, {}};
    *made = function;
    if (const ptx::Program* program = function->module->program.get()) {
        const auto kernel = program->kernels.find(name);
        if (kernel == program->kernels.end()) return NOT_FOUND;
        function->compiled = &kernel->second;
        function->bytes.assign(kernel->second.parameters.begin(), kernel->second.parameters.end());
        return SUCCESS;
    }
    unsigned char is_memory[64];
    const int parameters = emulator_parameters(name, is_memory, sizeof is_memory);
    for (int i = 0; i < parameters; i++) function->bytes.push_back(is_memory[i] ? 8 : 4);
    return parameters < 0 ? NOT_FOUND : SUCCESS;
}
EXPORT int cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, void*, int, size_t, unsigned) {
    return *blocks = BLOCKS_EACH, SUCCESS;
}
EXPORT int cuLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned block_x, unsigned block_y, unsigned block_z,
                          unsigned shared, void* stream, void** parameters, void**) {
    std::lock_guard lock(mutex);
    const unsigned grid[] = {x, y, z}, block[] = {block_x, block_y, block_z};
    return enqueue_launch("cuLaunchKernel", function, grid, block, shared, stream, parameters, false);
}
EXPORT int cuLaunchCooperativeKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned block_x, unsigned block_y,
                                     unsigned block_z, unsigned shared, void* stream, void** parameters) {
    std::lock_guard lock(mutex);
    const unsigned grid[] = {x, y, z}, block[] = {block_x, block_y, block_z};
    return enqueue_launch("cuLaunchCooperativeKernel", function, grid, block, shared, stream, parameters, true);
}

struct Program {
    std::string source, log, image;
};

EXPORT int nvrtcVersion(int* major, int* minor) {
    const int version = int(configured("nvrtc", 13990));
    return *major = version / 1000, *minor = version % 1000 / 10, SUCCESS;
}
EXPORT const char* nvrtcGetErrorString(int result) { return result == 0 ? "NVRTC_SUCCESS" : "NVRTC_ERROR"; }
EXPORT int nvrtcCreateProgram(void** made, const char* source, const char*, int, const char* const*, const char* const*) {
    return *made = new Program{source, "", ""}, 0;
}
EXPORT int nvrtcDestroyProgram(void** program) { return delete static_cast<Program*>(*program), *program = nullptr, 0; }
// The compiler named in FWPKM_STAND_IN_NVRTC.
class Compiler {
public:
    explicit Compiler(const char* path) {
        // It opens its builtins by name, where they are not there already.
        const std::string folder = std::string(path).substr(0, std::string(path).rfind('/') + 1);
        const std::string names[] = {"libnvrtc-builtins.so.13.0", "libnvrtc-builtins.so"};
        for (const std::string& name : names)
            if (dlopen((folder + name).c_str(), RTLD_NOW | RTLD_GLOBAL)) break;
        library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    }

    // Whether it compiled; the PTX, or else the log.
    bool compile(const std::string& source, const std::vector<std::string>& options, std::string& text) {
        if (!library) return text = std::string("FWPKM_STAND_IN_NVRTC: ") + dlerror(), false;
        std::vector<const char*> words;
        for (const std::string& option : options) words.push_back(option.c_str());
        void* program = nullptr;
        call<const char*, const char*, int, void*, void*>("nvrtcCreateProgram", &program, source.c_str(), "fwpkm.cu", 0, nullptr,
                                                          nullptr);
        const bool good = call<int, const char* const*>("nvrtcCompileProgram", program, int(words.size()), words.data()) == 0;
        size_t size = 0;
        call<size_t*>(good ? "nvrtcGetPTXSize" : "nvrtcGetProgramLogSize", program, &size);
        text.resize(size);
        call<char*>(good ? "nvrtcGetPTX" : "nvrtcGetProgramLog", program, text.data());
        text.resize(size ? size - 1 : 0);
        call<>("nvrtcDestroyProgram", &program);
        return good;
    }

private:
    void* library;

    template <class... Rest> int call(const char* name, void* first, Rest... rest) {
        return reinterpret_cast<int (*)(void*, Rest...)>(dlsym(library, name))(first, rest...);
    }
};

EXPORT int nvrtcCompileProgram(void* handle, int count, const char* const* options) {
    auto& program = *static_cast<Program*>(handle);
    const std::string device = "--gpu-architecture=sm_" + std::to_string(configured("capability", 90));
    bool separate = false, architecture = false;
    std::string constants;
    std::vector<std::string> passed;
    for (int i = 0; i < count; i++) {
        std::string option = options[i];
        if (option == "--fmad=false") separate = true;
        else if (option == device) architecture = true, option.replace(option.find("sm_"), 3, "compute_");
        else if (option.compare(0, 2, "-D") == 0 && option.find('=') != std::string::npos) constants += option.substr(2) + "\n";
        else if (option != "--std=c++17") program.log += "fwpkm.cu: unknown option " + option + "\n";
        passed.push_back(option);
    }
    if (!separate) program.log += "fwpkm.cu: the emulator does not fuse products and sums; --fmad=false is missing\n";
    if (!architecture) program.log += "fwpkm.cu: the architecture is not that of the device\n";
    if (program.source.find("KERNEL") == std::string::npos) program.log += "fwpkm.cu: no kernel\n";
    if (!program.log.empty()) return 6;
    const char* path = std::getenv("FWPKM_STAND_IN_NVRTC");
    if (!path) return program.image = std::string(MAGIC) + "\n" + constants, 0;
    static Compiler compiler(path);
    std::string text;
    if (!compiler.compile(program.source, passed, text)) return program.log = text, 6;
    return program.image = std::string(MAGIC_PTX) + "\n" + text, 0;
}
EXPORT int nvrtcGetProgramLogSize(void* program, size_t* size) { return *size = static_cast<Program*>(program)->log.size() + 1, 0; }
EXPORT int nvrtcGetProgramLog(void* program, char* log) {
    const std::string& text = static_cast<Program*>(program)->log;
    return std::memcpy(log, text.c_str(), text.size() + 1), 0;
}
EXPORT int nvrtcGetCUBINSize(void* program, size_t* size) { return *size = static_cast<Program*>(program)->image.size() + 1, 0; }
EXPORT int nvrtcGetCUBIN(void* program, char* image) {
    const std::string& text = static_cast<Program*>(program)->image;
    return std::memcpy(image, text.c_str(), text.size() + 1), 0;
}
