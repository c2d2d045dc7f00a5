// Threads of a block as fibers: two stacks, one switch between them.
//
// x86-64: hand-written, about 50 ns. Elsewhere, and under EMULATOR_UCONTEXT: ucontext, about ten times that.
#pragma once

#include <cstddef>
#include <cstdint>

namespace emulator {

using Entry = void (*)();

#if defined(__x86_64__) && !defined(EMULATOR_UCONTEXT)

struct Context {
    void* stack_pointer = nullptr;
};

// Saves the registers that a callee keeps, changes stacks, restores those of the other side.
extern "C" void emulator_switch(void** save, void* load);
#if defined(EMULATOR_HERE)  // in one object file only
asm(R"(
    .text
    .globl emulator_switch
    .type emulator_switch, @function
emulator_switch:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret
    .size emulator_switch, .-emulator_switch
)");
#endif

// Six registers and the return address; the entry then sees the stack as after a call.
inline void prepare(Context& context, char* stack, size_t size, Entry entry) {
    uintptr_t top = reinterpret_cast<uintptr_t>(stack + size) & ~uintptr_t(15);
    void** at = reinterpret_cast<void**>(top - 64);
    for (int i = 0; i < 6; i++) at[i] = nullptr;
    at[6] = reinterpret_cast<void*>(entry);
    at[7] = nullptr;
    context.stack_pointer = at;
}

inline void switch_to(Context& from, Context& to) { emulator_switch(&from.stack_pointer, to.stack_pointer); }

#else

}  // namespace emulator
#include <ucontext.h>
namespace emulator {

struct Context {
    ucontext_t state;
};

inline void prepare(Context& context, char* stack, size_t size, Entry entry) {
    getcontext(&context.state);
    context.state.uc_stack.ss_sp = stack;
    context.state.uc_stack.ss_size = size;
    context.state.uc_link = nullptr;
    makecontext(&context.state, entry, 0);
}

inline void switch_to(Context& from, Context& to) { swapcontext(&from.state, &to.state); }

#endif

}  // namespace emulator
