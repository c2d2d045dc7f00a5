// The library libcuda with the emulator as its device, beside nvrtc.cpp: what the crate calls, and no more.
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
#include <algorithm>
#include <sstream>

#include "driver.hpp"

using namespace stand_in;

namespace {

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
    {UNKNOWN, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

// What may throw, or looks at what another thread may change, goes through this.
template <class Body> int call(const char* name, Body body) {
    return answer(name, OUT_OF_MEMORY, UNKNOWN, [&]() -> int {
        std::lock_guard lock(mutex);
        return body();
    });
}
template <class Body> int call(const char* name, Allowed when, Body body) {
    return call(name, [&]() -> Result {
        if (Result result = allowed(name, when)) return result;
        return body();
    });
}

}  // namespace

EXPORT int cuInit(unsigned) {
    return call("cuInit", [&] {
        initialised = true;
        return configured("devices", 1) == 0 ? NO_DEVICE : SUCCESS;
    });
}
EXPORT int cuDriverGetVersion(int* version) {
    return call("cuDriverGetVersion", [&] { return *version = int(configured("driver", 13990)), SUCCESS; });
}
// NVRTC asks the driver of its machine for what is in no header, and does without.
EXPORT int cuGetExportTable(const void** table, const void*) { return *table = nullptr, NOT_FOUND; }
EXPORT int cuDeviceGetCount(int* count) {
    return call("cuDeviceGetCount", [&] { return *count = int(configured("devices", 1)), initialised ? SUCCESS : NOT_INITIALIZED; });
}
EXPORT int cuDeviceGet(int* device, int ordinal) {
    return call("cuDeviceGet", [&] {
        const int count = std::min(int(configured("devices", 1)), MOST_DEVICES);
        return *device = ordinal, ordinal >= 0 && ordinal < count ? SUCCESS : INVALID_DEVICE;
    });
}
EXPORT int cuDeviceGetName(char* name, int length, int) { return std::snprintf(name, size_t(length), "no GPU, the emulator"), SUCCESS; }
EXPORT int cuDeviceTotalMem_v2(size_t* bytes, int) {
    return call("cuDeviceTotalMem_v2", [&] { return *bytes = memory_size(), SUCCESS; });
}
EXPORT int cuDeviceGetAttribute(int* value, int attribute, int) {
    return call("cuDeviceGetAttribute", [&] {
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
    });
}
EXPORT int cuDevicePrimaryCtxRetain(void** made, int device) {
    return call("cuDevicePrimaryCtxRetain", [&] {
        if (retained == 0 && ++times_made > configured("contexts", UINT64_MAX))
            return complain(INVALID_VALUE, "the context of a device made " + std::to_string(times_made) + " times");
        return retained++, *made = &contexts[device], SUCCESS;
    });
}
EXPORT int cuDevicePrimaryCtxRelease_v2(int) {
    return call("cuDevicePrimaryCtxRelease_v2", [&] {
        if (--retained == 0 && !allocations.empty())
            return complain(INVALID_VALUE, std::to_string(allocations.size()) + " allocations were never freed");
        return SUCCESS;
    });
}
EXPORT int cuCtxSetCurrent(void* to) { return current = to, SUCCESS; }
EXPORT int cuCtxGetCurrent(void** to) { return *to = current, SUCCESS; }
EXPORT int cuCtxSynchronize() {
    return call("cuCtxSynchronize", WHILE_NOBODY_RECORDS, [&] { return wait(); });
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
    return call("cuMemAlloc", WHILE_OTHERS_RECORD, [&] {
        if (bytes == 0) return complain(INVALID_VALUE, "cuMemAlloc of 0 bytes");
        if (bytes > memory_size() - used) return OUT_OF_MEMORY;
        emulator::Memory* memory = emulator_allocate("device memory", bytes);
        if (!memory) return OUT_OF_MEMORY;
        *address = next_address;
        allocations[next_address] = {memory, bytes};
        next_address += (bytes / 512 + 2) * 512;  // aligned as a device's, with a gap
        used += bytes;
        return SUCCESS;
    });
}
EXPORT int cuMemFree_v2(uint64_t address) {
    return call("cuMemFree", WHILE_OTHERS_RECORD, [&] {
        if (Result result = wait()) return result;
        auto found = allocations.find(address);
        if (found == allocations.end()) return complain(INVALID_VALUE, "cuMemFree of what was not allocated");
        used -= found->second.bytes;
        emulator_free(found->second.memory);
        allocations.erase(found);
        return SUCCESS;
    });
}
EXPORT int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, void* stream) {
    return call("cuMemcpyHtoDAsync of pageable memory", WHILE_OTHERS_RECORD, [&] {
        Operation operation{Operation::WRITE, to, 0, bytes};
        operation.numbers.assign(static_cast<const char*>(from), static_cast<const char*>(from) + bytes);
        return enqueue(stream, operation);
    });
}
EXPORT int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, void* stream) {
    return call("cuMemcpyDtoHAsync of pageable memory", WHILE_OTHERS_RECORD, [&] {
        return enqueue(stream, {Operation::READ, 0, from, bytes, to});
    });
}
EXPORT int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void* stream) {
    return call("cuMemcpyDtoDAsync", ALWAYS, [&] {
        if (to < from + bytes && from < to + bytes && bytes > 0) return complain(INVALID_VALUE, "a copy onto itself");
        return enqueue(stream, {Operation::COPY, to, from, bytes});
    });
}
EXPORT int cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, void* stream) {
    return call("cuMemsetD8Async", ALWAYS, [&] {
        Operation operation{Operation::FILL, to, 0, bytes};
        operation.numbers.assign(bytes, char(value));
        return enqueue(stream, operation);
    });
}

EXPORT int cuStreamCreate(void** made, unsigned) {
    return call("cuStreamCreate", WHILE_OTHERS_RECORD, [&] {
        auto* stream = new Stream;
        streams.push_back(stream);
        return *made = stream, SUCCESS;
    });
}
EXPORT int cuStreamDestroy_v2(void* handle) {
    return call("cuStreamDestroy_v2", [&] {
        auto* stream = static_cast<Stream*>(handle);
        Result result = wait(*stream);
        streams.erase(std::remove(streams.begin(), streams.end(), stream), streams.end());
        delete stream;
        return result;
    });
}
EXPORT int cuStreamSynchronize(void* stream) {
    return call("cuStreamSynchronize", WHILE_OTHERS_RECORD, [&] { return wait(*static_cast<Stream*>(stream)); });
}
EXPORT int cuStreamBeginCapture_v2(void* handle, int) {
    return call("cuStreamBeginCapture", WHILE_OTHERS_RECORD, [&] {
        auto& stream = *static_cast<Stream*>(handle);
        stream.capturing = true, stream.invalidated = false, stream.recorder = std::this_thread::get_id(), stream.graph = new Graph;
        return SUCCESS;
    });
}
EXPORT int cuStreamEndCapture(void* handle, void** made) {
    return call("cuStreamEndCapture", [&] {
        auto& stream = *static_cast<Stream*>(handle);
        if (!stream.capturing) return complain(INVALID_VALUE, "cuStreamEndCapture without a beginning");
        stream.capturing = false;
        if (stream.invalidated) return delete stream.graph, *made = nullptr, CAPTURE_INVALIDATED;
        return *made = stream.graph, SUCCESS;
    });
}

EXPORT int cuGraphInstantiateWithFlags(void** made, void* graph, unsigned long long) {
    return call("cuGraphInstantiateWithFlags", [&] { return *made = new Graph(*static_cast<Graph*>(graph)), SUCCESS; });
}
EXPORT int cuGraphLaunch(void* graph, void* stream) {
    return call("cuGraphLaunch", WHILE_OTHERS_RECORD, [&] {
        for (const Operation& operation : static_cast<Graph*>(graph)->operations)
            if (Result result = enqueue(stream, operation)) return result;
        return SUCCESS;
    });
}
EXPORT int cuGraphDestroy(void* graph) { return delete static_cast<Graph*>(graph), SUCCESS; }
EXPORT int cuGraphExecDestroy(void* graph) { return delete static_cast<Graph*>(graph), SUCCESS; }

EXPORT int cuEventCreate(void** made, unsigned flags) {
    return call("cuEventCreate", [&] {
        auto* event = new Event;
        event->timed = !(flags & 2);
        return *made = event, SUCCESS;
    });
}
EXPORT int cuEventDestroy_v2(void* event) {
    return call("cuEventDestroy_v2", [&] {
        if (Result result = wait()) return result;
        return delete static_cast<Event*>(event), SUCCESS;
    });
}
EXPORT int cuEventRecord(void* event, void* stream) {
    return call("cuEventRecord", WHILE_OTHERS_RECORD, [&] {
        static_cast<Event*>(event)->recorded = true;
        Operation operation{Operation::MOMENT};
        operation.event = static_cast<Event*>(event);
        return enqueue(stream, operation);
    });
}
EXPORT int cuEventSynchronize(void* event) {
    return call("cuEventSynchronize", WHILE_OTHERS_RECORD, [&] { return static_cast<Event*>(event)->recorded ? wait() : SUCCESS; });
}
EXPORT int cuEventElapsedTime_v2(float* milliseconds, void* from, void* to) {
    return call("cuEventElapsedTime_v2", [&] {
        auto &first = *static_cast<Event*>(from), &last = *static_cast<Event*>(to);
        if (!first.timed || !last.timed || !first.recorded || !last.recorded) return complain(INVALID_HANDLE, "an event without time");
        if (!first.passed || !last.passed) return NOT_READY;
        return *milliseconds = std::chrono::duration<float, std::milli>(last.at - first.at).count(), SUCCESS;
    });
}

EXPORT int cuModuleLoadData(void** made, const void* image) {
    return call("cuModuleLoadData", WHILE_OTHERS_RECORD, [&] {
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
    });
}
EXPORT int cuModuleUnload(void* module) {
    return call("cuModuleUnload", [&] {
        for (const Stream* stream : streams)
            for (const Operation& operation : stream->waiting)
                if (operation.what == Operation::KERNEL && operation.launch.function->module == module)
                    complain(INVALID_VALUE, "cuModuleUnload before " + operation.launch.function->kernel + " ran");
        if (Result result = wait()) return result;
        return delete static_cast<Module*>(module), SUCCESS;
    });
}
EXPORT int cuModuleGetFunction(void** made, void* module, const char* name) {
    return call("cuModuleGetFunction", ALWAYS, [&] {
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
    });
}
EXPORT int cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, void*, int, size_t, unsigned) {
    return call("cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags", [&] { return *blocks = BLOCKS_EACH, SUCCESS; });
}
EXPORT int cuLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned block_x, unsigned block_y, unsigned block_z,
                          unsigned shared, void* stream, void** parameters, void**) {
    return call("cuLaunchKernel", ALWAYS, [&] {
        const unsigned grid[] = {x, y, z}, block[] = {block_x, block_y, block_z};
        return enqueue_launch(function, grid, block, shared, stream, parameters, false);
    });
}
EXPORT int cuLaunchCooperativeKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned block_x, unsigned block_y,
                                     unsigned block_z, unsigned shared, void* stream, void** parameters) {
    return call("cuLaunchCooperativeKernel", ALWAYS, [&] {
        const unsigned grid[] = {x, y, z}, block[] = {block_x, block_y, block_z};
        return enqueue_launch(function, grid, block, shared, stream, parameters, true);
    });
}
