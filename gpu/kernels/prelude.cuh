// Words that every kernel file uses. Prepended to the files by the crate; no file includes another.
//
// Shapes and settings are compile-time constants, given as macros (src/constants.rs lists them):
//   HEADS, SUB_KEYS, HALF_DIM, VALUE_DIM, TOP_K, KEPT_MAX, PAIRS        shapes; PAIRS = |{(a,b) : (a+1)(b+1) <= TOP_K}|
//   KEPT_LANES                                                          lanes for what is kept of a row and half, a power of two
//   DOT_PRODUCT, KEEP_TIES, ACTIVATION, EACH_HEAD, CLIP, ...            settings, 0 or 1 or a small number
//   EPSILON, TEMPERATURE, LEARNING_RATE, ...                            real numbers, f64
//
// Two orders of sums are part of every kernel's contract, so that no tile shape, schedule or variant changes a bit:
//   lane order   term d belongs to lane (d / 4) mod 32; a lane adds its terms ascending; the 32 sums are added as a tree of
//                lanes 16, 8, 4, 2, 1 apart
//   list order   terms ascending, one after the other, in segments of SEGMENT terms; the segments' sums ascending
// Products and sums are fused where fmaf is written, and nowhere else: kernels are compiled with --fmad=false.

#ifndef EMULATOR
#define KERNEL extern "C" __global__
#define DEVICE static __device__ __forceinline__
// Nobody writes what is IN while the function runs. What is OUT others may write, beyond a barrier: no __restrict__.
#define IN(type) const type* __restrict__
#define OUT(type) type*
// At 16 bytes, for load4.
#define SHARED(type, name, count) __shared__ __align__(16) type name[count]
#define DYNAMIC_SHARED(type, name) extern __shared__ __align__(16) type name[]

// 16 bytes at once: the element must be a multiple of 4.
DEVICE float4 load4(const float* from, long long at) { return *reinterpret_cast<const float4*>(from + at); }
DEVICE void store4(float* to, long long at, float4 value) { *reinterpret_cast<float4*>(to + at) = value; }
// The nearest number of 11 bits; halves away from 0.
DEVICE float to_tf32(float x) {
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return __uint_as_float(bits);
}
// sums += a b by tensor cores, of a 16 x 8 and an 8 x 8 piece that the warp holds together.
DEVICE void multiply_add_tf32(float* sums, const unsigned* a, const unsigned* b) {
    // volatile: it must not move to where only some lanes go.
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// What others have written by now.
DEVICE int load_now(const int* from) { return *reinterpret_cast<const volatile int*>(from); }
// What others have written by now, or before, since the last barrier or launch.
DEVICE unsigned load_recent(const unsigned* from) {
    unsigned number;
    asm volatile("ld.global.ca.u32 %0, [%1];" : "=r"(number) : "l"(from));
    return number;
}
// Brings a number nearer, to be loaded later.
DEVICE void prefetch(const float* from) { asm volatile("prefetch.global.L2 [%0];" ::"l"(from)); }
// The same number, which the compiler does not know: what follows from it is computed again instead of kept in registers.
DEVICE int again(int number) {
    asm volatile("" : "+r"(number));
    return number;
}
#endif

typedef long long Index;

#define FULL_WARP 0xffffffffu
#define SEGMENT 32

// What was not finite first: 16 chunk + tensor. The smallest wins, as the interpreter checks in this order.       NUM-7
// What changes the tables reads the flag and raises nothing; all else may raise it and does not look at it.
#define FLAG_NONE 0x7fffffff
#define FLAG_INPUT 0
#define FLAG_HALF_SCORES 1
#define FLAG_PAIR_SCORES 2
#define FLAG_WEIGHTS 3
#define FLAG_READS 4
#define FLAG_PAIR_LOSSES 5
#define FLAG_VALUE_GRADIENT 6
#define FLAG_SLOT_VALUES 7
#define FLAG_ADDRESSING_LOSS 8
#define FLAG_SUB_KEY_GRADIENT 9
#define FLAG_SUB_KEYS 10
// Where the flag's buffer holds the number of the chunk, which the last kernel of a step raises: launches of one chunk are those
// of the next, and a recorded graph of them can run again. Numbers begin again after CHUNKS, so that 16 chunk fits.
#define FLAG_CHUNK 4
#define CHUNKS (1 << 26)

// Sum of one number per lane, in the tree of lane order; every lane gets the same bits.
DEVICE float warp_sum(float x) {
    x += __shfl_xor_sync(FULL_WARP, x, 16);
    x += __shfl_xor_sync(FULL_WARP, x, 8);
    x += __shfl_xor_sync(FULL_WARP, x, 4);
    x += __shfl_xor_sync(FULL_WARP, x, 2);
    x += __shfl_xor_sync(FULL_WARP, x, 1);
    return x;
}

DEVICE double warp_sum_f64(double x) {
    x += __shfl_xor_sync(FULL_WARP, x, 16);
    x += __shfl_xor_sync(FULL_WARP, x, 8);
    x += __shfl_xor_sync(FULL_WARP, x, 4);
    x += __shfl_xor_sync(FULL_WARP, x, 2);
    x += __shfl_xor_sync(FULL_WARP, x, 1);
    return x;
}

// The same tree by one thread.
DEVICE float lanes_sum(float* lanes) {
    for (int apart = 16; apart > 0; apart /= 2)
        for (int lane = 0; lane < apart; lane++) lanes[lane] = lanes[lane] + lanes[lane + apart];
    return lanes[0];
}

DEVICE double lanes_sum_f64(double* lanes) {
    for (int apart = 16; apart > 0; apart /= 2)
        for (int lane = 0; lane < apart; lane++) lanes[lane] = lanes[lane] + lanes[lane + apart];
    return lanes[0];
}

// Waits until all blocks of a cooperative launch are here; what they wrote before can be read after. arrivals only ever grow;
// `rounds` is the block's number of barriers so far, in shared memory, both 0 when a launch begins.
DEVICE void grid_barrier(OUT(int) arrivals, OUT(int) rounds) {
    __syncthreads();
    if (threadIdx.x == 0) {
        rounds[0] = rounds[0] + 1;
        const int all = rounds[0] * (int)gridDim.x;
        __threadfence();
        atomicAdd(&arrivals[0], 1);
        while (load_now(&arrivals[0]) < all) __nanosleep(20);
        __threadfence();
    }
    __syncthreads();
}

DEVICE void raise(OUT(int) flag, int tensor) { atomicMin(&flag[0], flag[FLAG_CHUNK] * 16 + tensor); }

// clip(x) of MEM-5
DEVICE float clipped(float x) {
    if (CLIP) {
        const float limit = (float)GRADIENT_CLIP;
        x = x > limit ? limit : (x < -limit ? -limit : x);
    }
    return x;
}

// p - lr (clip(g) + decay p); a step of zero leaves the bits of p as they are.              MEM-5, ADR-6
DEVICE float descend(float parameter, float gradient) {
    float direction = clipped(gradient);
    if (DECAY) direction = direction + (float)WEIGHT_DECAY * parameter;
    const float step = (float)LEARNING_RATE * direction;
    return step == 0.0f ? parameter : parameter - step;
}
