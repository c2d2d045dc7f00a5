// What the stand-in driver does when something waits for it, and what it refuses before.
#include <cstdlib>
#include <sstream>

#include "driver.hpp"

namespace stand_in {

// A word of FWPKM_STAND_IN, or what holds without it.
uint64_t configured(const char* word, uint64_t otherwise) {
    const char* text = std::getenv("FWPKM_STAND_IN");
    std::istringstream words(text ? text : "");
    for (std::string one; words >> one;)
        if (one.compare(0, std::strlen(word) + 1, std::string(word) + "=") == 0)
            return std::strtoull(one.c_str() + std::strlen(word) + 1, nullptr, 10);
    return otherwise;
}

Result complain(Result result, const std::string& why) {
    std::fprintf(stderr, "stand-in driver: %s\n", why.c_str());
    return result;
}

uint64_t memory_size() { return configured("memory", uint64_t(4) << 30); }

bool find(uint64_t address, size_t bytes, Allocation& found, size_t& offset) {
    auto after = allocations.upper_bound(address);
    if (after == allocations.begin()) return false;
    --after;
    offset = address - after->first;
    found = after->second;
    return offset <= found.bytes && bytes <= found.bytes - offset;
}

namespace {

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

}  // namespace

Result wait(Stream& stream) {
    std::vector<Operation> waiting;
    waiting.swap(stream.waiting);
    try {
        for (Operation& operation : waiting)
            if (broken != SUCCESS || perform(operation) != SUCCESS) return broken;
    } catch (const std::exception&) {
        broken = LAUNCH_FAILED;  // what came after is lost
        throw;
    }
    return SUCCESS;
}

Result wait() {
    for (Stream* stream : streams)
        if (Result result = wait(*stream)) return result;
    return SUCCESS;
}

Result allowed(const char* call, Allowed when) {
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

Result enqueue_launch(void* function, const unsigned* grid, const unsigned* block, unsigned shared, void* stream, void** parameters,
                      bool cooperative) {
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

}  // namespace stand_in
