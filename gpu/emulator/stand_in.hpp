// What the stand-ins for libcuda and libnvrtc share.
#pragma once

#include <cstdint>
#include <cstdio>
#include <exception>
#include <new>
#include <string>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace stand_in {

// A word of FWPKM_STAND_IN, or what holds without it.
uint64_t configured(const char* word, uint64_t otherwise);

// An image is a magic word, then lines `NAME=value`, or PTX.
constexpr char MAGIC[] = "\177ELF fwpkm stand-in", MAGIC_PTX[] = "\177ELF fwpkm stand-in, PTX";

// What a call answers. Callers are C and Rust, through which no exception may go.
template <class Body> int answer(const char* call, int out_of_memory, int unknown, Body body) {
    try {
        return body();
    } catch (const std::bad_alloc&) {
        std::fprintf(stderr, "stand-in driver: %s: the host has no memory for it\n", call);
        return out_of_memory;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "stand-in driver: %s: %s\n", call, error.what());
        return unknown;
    }
}

}  // namespace stand_in
