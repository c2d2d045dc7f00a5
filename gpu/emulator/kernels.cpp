// The kernels as the host compiler sees them, by name, and the C interface that the crate calls.

#include "cuda.hpp"

#include <array>
#include <cstdint>
#include <cstdio>
#include <new>
#include <stdexcept>
#include <utility>

// Compile-time constants on a device, variables here.
#define INTEGERS(X)                                                                                                    \
    X(HEADS) X(SUB_KEYS) X(HALF_DIM) X(VALUE_DIM) X(TOP_K) X(KEPT_MAX) X(KEPT_LANES) X(PAIRS) X(DOT_PRODUCT) X(KEEP_TIES)             \
    X(ACTIVATION) X(EACH_HEAD) X(CLIP) X(DECAY) X(DECAY_GROWS) X(READ_FACTOR) X(PAIR_FACTOR) X(SUB_KEY_MEAN)            \
    X(MEMORY_TO_SUB_KEYS) X(TILE) X(PER) X(TENSOR) X(WALK)
#define REALS(X)                                                                                                       \
    X(EPSILON) X(TEMPERATURE) X(LEARNING_RATE) X(WEIGHT_DECAY) X(GRADIENT_CLIP) X(LOG_EPSILON) X(ADDRESSING_WEIGHT)

#define DECLARE(name) static thread_local int name;
INTEGERS(DECLARE)
#undef DECLARE
#define DECLARE(name) static thread_local double name;
REALS(DECLARE)
#undef DECLARE

#include "../kernels/prelude.cuh"
#include "../kernels/measure.cu"
#include "../kernels/input.cu"
#include "../kernels/score.cu"
#include "../kernels/select.cu"
#include "../kernels/read.cu"
#include "../kernels/memorize.cu"
#include "../kernels/memorize_sub_keys.cu"
#include "../kernels/address.cu"
#include "../kernels/chunk.cu"
#include "../kernels/simple/score.cu"
#include "../kernels/simple/select.cu"
#include "../kernels/simple/read.cu"
#include "../kernels/simple/memorize.cu"
#include "../kernels/simple/address.cu"
#include "faults.cu"
#include "interface.hpp"
#include "recording.hpp"

using emulator::Argument;
using emulator::Memory;

namespace {

bool set_constant(const char* name, double value) {
#define SET(constant) \
    if (!std::strcmp(name, #constant)) return constant = value, true;
    INTEGERS(SET)
    REALS(SET)
#undef SET
    return false;
}

template <class T> struct Take {
    static T from(const Argument& argument) {
        T value;
        std::memcpy(&value, &argument.value, sizeof(T));
        return value;
    }
};
template <class T> struct Take<emulator::Pointer<T>> {
    static emulator::Pointer<T> from(const Argument& argument) {
        Memory* memory = reinterpret_cast<Memory*>(argument.value);
        return {memory, ptrdiff_t(argument.offset / 4)};
    }
};

template <class... Parameters, size_t... I>
void call(void (*kernel)(Parameters...), const Argument* arguments, std::index_sequence<I...>) {
    kernel(Take<Parameters>::from(arguments[I])...);
}
template <class... Parameters> auto sequence_of(void (*)(Parameters...)) {
    return std::index_sequence_for<Parameters...>{};
}
template <class... Parameters> size_t count_of(void (*)(Parameters...)) { return sizeof...(Parameters); }

template <class T> constexpr bool IS_MEMORY = false;
template <class T> constexpr bool IS_MEMORY<emulator::Pointer<T>> = true;
template <class... Parameters> std::array<unsigned char, sizeof...(Parameters)> kinds_of(void (*)(Parameters...)) {
    return {IS_MEMORY<Parameters>...};
}

#define KERNELS(X)                                                                                                     \
    X(chunk_walk) X(input_check) X(measure_fma) X(score_norms) X(score_rank) X(score_all) X(select_best) X(select_each) X(read_slots) X(read_each)                  \
    X(memorize_residual) X(memorize_count) X(memorize_lists) X(memorize_place) X(memorize_sort_hot)                     \
    X(memorize_segments) X(memorize_hot) X(memorize_decay) X(memorize_clear) X(memorize_to_scores)                      \
    X(memorize_residual_each) X(memorize_each) X(address_ties) X(address_usage) X(address_marginal) X(address_entropy)  \
    X(address_slopes) X(address_gradient) X(address_apply) X(address_marginal_each) X(address_entropy_alone)            \
    X(address_gradient_each) X(fault_none) X(fault_no_barrier) X(fault_divergent_barrier) X(fault_early_exit)           \
    X(fault_tail) X(fault_unordered_sum) X(fault_poison) X(fault_poison_shared) X(fault_no_syncwarp) X(fault_shuffle_for_syncwarp) \
    X(fault_divergent_shuffle) X(fault_endless_wait) X(fault_between_blocks) X(fault_grid_barrier)                      \
    X(fault_no_grid_barrier) X(fault_relay) X(fault_dynamic_shared) X(fault_misaligned)

struct Refused : std::runtime_error {
    using std::runtime_error::runtime_error;
};

std::function<void()> find(const char* name, const Argument* arguments, size_t count) {
#define BIND(kernel)                                                                                                   \
    if (!std::strcmp(name, #kernel) && count == count_of(kernel))                                                       \
        return [=] { call(kernel, arguments, sequence_of(kernel)); };
    KERNELS(BIND)
#undef BIND
    throw Refused(std::string("no kernel ") + name + " of " + std::to_string(count) + " parameters");
}

// The kernel with its arguments, where they are of the right kinds.
std::function<void()> bind(const char* kernel, const Argument* arguments, size_t count) {
    const auto bound = find(kernel, arguments, count);
    std::vector<unsigned char> kinds(count);
    emulator_parameters(kernel, kinds.data(), count);
    for (size_t i = 0; i < count; i++) {
        if (bool(kinds[i]) == bool(arguments[i].is_memory)) continue;
        const char* words[] = {"an integer", "a buffer"};
        throw Refused(std::string(kernel) + ": argument " + std::to_string(i) + " is " + words[bool(arguments[i].is_memory)] +
                      ", the parameter is " + words[bool(kinds[i])]);
    }
    return bound;
}

}  // namespace

// No exception may leave what follows, which Rust calls.

extern "C" {

// Null where there is no room.
Memory* emulator_allocate(const char* name, size_t bytes) {
    if (bytes > SIZE_MAX / sizeof(emulator::Word)) return nullptr;
    try {
        return new Memory(name, bytes);
    } catch (const std::exception&) {  // of an allocation
        return nullptr;
    }
}
void emulator_free(Memory* memory) { delete memory; }

// Copies in; false where it would not fit.
bool emulator_write(Memory* memory, size_t offset, const void* from, size_t bytes) {
    if (offset > memory->size * 4 || bytes > memory->size * 4 - offset) return false;
    std::memcpy(reinterpret_cast<char*>(memory->words.get()) + offset, from, bytes);
    for (size_t word = offset / 4; word < (offset + bytes + 3) / 4; word++) memory->shadow[word].initialised = true;
    return true;
}

// Copies out; false where it would not fit or nobody wrote it.
bool emulator_read(const Memory* memory, size_t offset, void* to, size_t bytes) {
    if (offset > memory->size * 4 || bytes > memory->size * 4 - offset) return false;
    for (size_t word = offset / 4; word < (offset + bytes + 3) / 4; word++)
        if (!memory->shadow[word].initialised) return false;
    std::memcpy(to, reinterpret_cast<const char*>(memory->words.get()) + offset, bytes);
    return true;
}

bool emulator_copy(Memory* to, size_t to_offset, const Memory* from, size_t from_offset, size_t bytes) {
    if (from_offset > from->size * 4 || bytes > from->size * 4 - from_offset) return false;
    if (to_offset > to->size * 4 || bytes > to->size * 4 - to_offset) return false;
    std::memmove(&to->words[to_offset / 4], &from->words[from_offset / 4], bytes);
    for (size_t word = 0; word < bytes / 4; word++)
        to->shadow[to_offset / 4 + word].initialised = from->shadow[from_offset / 4 + word].initialised;
    return true;
}

// How many parameters a kernel has, and which of them are memory; -1 where there is no such kernel.
int emulator_parameters(const char* kernel, unsigned char* is_memory, size_t most) {
#define KINDS(name)                                                                                                    \
    if (!std::strcmp(kernel, #name)) {                                                                                  \
        const auto kinds = kinds_of(name);                                                                              \
        std::copy_n(kinds.begin(), std::min(kinds.size(), most), is_memory);                                            \
        return int(kinds.size());                                                                                       \
    }
    KERNELS(KINDS)
#undef KINDS
    return -1;
}

// Runs a kernel. False, and why, where something is wrong with it.
bool emulator_launch(const char* kernel, const char* const* names, const double* values, size_t constants, unsigned grid,
                     unsigned block, size_t dynamic_bytes, bool cooperative, uint64_t seed, const Argument* arguments,
                     size_t count, char* error, size_t error_size) {
    const auto wrong = [&](const char* what) { return std::snprintf(error, error_size, "%s", what), *what == 0; };
    try {
        for (size_t i = 0; i < constants; i++)
            if (!set_constant(names[i], values[i])) throw Refused(std::string("no constant ") + names[i]);
        const auto bound = bind(kernel, arguments, count);
        emulator::Recording recording;
        recording.before(kernel, names, values, constants, {grid, block, dynamic_bytes, cooperative, seed}, arguments, count);
        const std::string found = emulator::run({kernel, grid, block, dynamic_bytes, cooperative, seed}, bound);
        recording.after(arguments, count);
        return wrong(found.c_str());
    } catch (const std::bad_alloc&) {
        return wrong("the host has no memory for this launch");
    } catch (const std::exception& exception) {
        return wrong(exception.what());
    }
}

}
