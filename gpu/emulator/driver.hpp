// The state of the stand-in driver, and what its calls have in common.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "interface.hpp"
#include "ptx.hpp"
#include "stand_in.hpp"

namespace stand_in {

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
    UNKNOWN = 999,
};

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

inline std::recursive_mutex mutex;
inline bool initialised = false;
constexpr int MOST_DEVICES = 8;
inline int retained = 0, contexts[MOST_DEVICES];  // the address of an element is the context of a device
inline uint64_t times_made = 0;
inline thread_local void* current = nullptr;
inline Result broken = SUCCESS;  // the first fault of the device; every later call gives it
inline uint64_t next_address = 0x7f0000000000, seed = 1, used = 0;
inline std::map<uint64_t, Allocation> allocations;
inline std::vector<Stream*> streams;

Result complain(Result result, const std::string& why);
uint64_t memory_size();
// The allocation that holds so many bytes from an address on.
bool find(uint64_t address, size_t bytes, Allocation& found, size_t& offset);
// Runs what a stream, or all of them, have waiting.
Result wait(Stream& stream);
Result wait();

// When a call may come, beside between the beginning and the end of a recording: what waits or allocates must not come from the
// thread that records, what waits for the whole device from no thread.
enum Allowed { ALWAYS, WHILE_OTHERS_RECORD, WHILE_NOBODY_RECORDS };
Result allowed(const char* call, Allowed when);

Result enqueue(void* handle, Operation operation);
Result enqueue_launch(void* function, const unsigned* grid, const unsigned* block, unsigned shared, void* stream, void** parameters,
                      bool cooperative);

}  // namespace stand_in
