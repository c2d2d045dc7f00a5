// Kernels with one planted fault each, and their sound twins: tests/emulator.rs says what the emulator must answer.

// Sound: the block's sum of numbers 0 ... count - 1, by a tree in shared memory and a warp tree.
KERNEL void fault_none(IN(float) numbers, OUT(float) sum, int count) {
    SHARED(float, parts, 256);
    const int t = (int)threadIdx.x;
    parts[t] = t < count ? (float)numbers[t] : 0.0f;
    __syncthreads();
    for (int apart = (int)blockDim.x / 2; apart >= 32; apart /= 2) {
        if (t < apart) parts[t] += parts[t + apart];
        __syncthreads();
    }
    if (t < 32) {
        const float total = warp_sum(parts[t]);
        if (t == 0) sum[0] = total;
    }
}

// As above without the barrier inside the loop.
KERNEL void fault_no_barrier(IN(float) numbers, OUT(float) sum, int count) {
    SHARED(float, parts, 256);
    const int t = (int)threadIdx.x;
    parts[t] = t < count ? (float)numbers[t] : 0.0f;
    __syncthreads();
    for (int apart = (int)blockDim.x / 2; apart >= 32; apart /= 2)
        if (t < apart) parts[t] += parts[t + apart];
    if (t < 32) {
        const float total = warp_sum(parts[t]);
        if (t == 0) sum[0] = total;
    }
}

KERNEL void fault_divergent_barrier(OUT(float) sum) {
    if (threadIdx.x < 32) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    if (threadIdx.x == 0) sum[0] = 1.0f;
}

KERNEL void fault_early_exit(OUT(float) sum) {
    if (threadIdx.x == 5) return;
    __syncthreads();
    if (threadIdx.x == 0) sum[0] = 1.0f;
}

// <= where < belongs.
KERNEL void fault_tail(IN(float) numbers, OUT(float) doubled, int count) {
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i <= count) doubled[i] = 2.0f * numbers[i];
}

// Every thread adds to one number.
KERNEL void fault_unordered_sum(IN(float) numbers, OUT(float) sum, int count) {
    if (threadIdx.x == 0) sum[0] = 0.0f;
    __syncthreads();
    if ((int)threadIdx.x < count) sum[0] += numbers[threadIdx.x];
}

KERNEL void fault_poison(IN(float) numbers, OUT(float) doubled) { doubled[threadIdx.x] = 2.0f * numbers[threadIdx.x]; }

KERNEL void fault_poison_shared(OUT(float) out) {
    SHARED(float, tile, 64);
    if (threadIdx.x < 32) tile[threadIdx.x] = 1.0f;
    __syncthreads();
    out[threadIdx.x] = tile[threadIdx.x];
}

// A lane reads what its neighbour wrote; within a warp that takes a __syncwarp.
KERNEL void fault_no_syncwarp(OUT(float) out) {
    SHARED(float, tile, 32);
    tile[threadIdx.x] = (float)threadIdx.x;
    out[threadIdx.x] = tile[(threadIdx.x + 1) % 32];
}

// As above, where the lanes meet in a shuffle in between: they meet, their memory does not.
KERNEL void fault_shuffle_for_syncwarp(OUT(float) out) {
    SHARED(float, tile, 32);
    tile[threadIdx.x] = (float)threadIdx.x;
    const float mine = __shfl_sync(FULL_WARP, (float)threadIdx.x, threadIdx.x);
    out[threadIdx.x] = tile[(threadIdx.x + 1) % 32] - mine;
}

KERNEL void fault_divergent_shuffle(OUT(float) out) {
    float x = 1.0f;
    if (threadIdx.x < 16) x = __shfl_xor_sync(FULL_WARP, x, 1);
    out[threadIdx.x] = x;
}

KERNEL void fault_endless_wait(OUT(int) ready) {
    while (atomicAdd(&ready[0], 0) == 0) __nanosleep(20);
}

// Block 1 reads what block 0 writes in the same launch.
KERNEL void fault_between_blocks(OUT(float) out) {
    if (blockIdx.x == 0) out[0] = 1.0f;
    else out[1] = out[0];
}

// Each block writes, all wait, each reads its neighbour's, twice: by grid_barrier, or by its steps without one of them.
#define WITHOUT_RELEASE 1    // the fence before the signal
#define WITHOUT_ACQUIRE 2    // the fence after the wait
#define WITHOUT_GATHERING 3  // the block's barrier before the fence
#define WITHOUT_PARTING 4    // the block's barrier after the fence
#define WITHOUT_SIGNAL_LAST 5 // the signal comes before the fence
#define BY_ATOMICS 6         // sound: waits by an atomic operation
KERNEL void fault_grid_barrier(OUT(int) arrivals, OUT(float) written, OUT(float) seen, int how) {
    SHARED(int, rounds, 1);
    if (threadIdx.x == 0) rounds[0] = 0;
    for (int round = 0; round < 2; round++) {
        if (threadIdx.x == 33) written[round * (int)gridDim.x + (int)blockIdx.x] = (float)blockIdx.x;
        if (how == 0) {
            grid_barrier(arrivals, rounds);
        } else {
            if (how != WITHOUT_GATHERING) __syncthreads();
            if (threadIdx.x == 0) {
                if (how == WITHOUT_SIGNAL_LAST) atomicAdd(&arrivals[0], 1);
                if (how != WITHOUT_RELEASE) __threadfence();
                if (how != WITHOUT_SIGNAL_LAST) atomicAdd(&arrivals[0], 1);
                const int all = (round + 1) * (int)gridDim.x;
                while ((how == BY_ATOMICS ? atomicAdd(&arrivals[0], 0) : load_now(&arrivals[0])) < all) __nanosleep(20);
                if (how != WITHOUT_ACQUIRE) __threadfence();
            }
            if (how != WITHOUT_PARTING) __syncthreads();
        }
        if (threadIdx.x == 50)
            seen[round * (int)gridDim.x + (int)blockIdx.x] =
                written[round * (int)gridDim.x + ((int)blockIdx.x + 1) % (int)gridDim.x];
        __syncthreads();
    }
}

// Block 0 writes, thread by thread or by a warp that meets; block 1 reads it and signals block 2, which reads both.
#define ONE_THREAD 0     // sound
#define ONE_WARP 1       // sound: __syncwarp before the fence and after it
#define WITHOUT_SYNCWARP 2
#define SHUFFLE 3        // in place of __syncwarp
#define WITHOUT_RELAY 4  // block 1 does not fence between what it sees and its own signal
KERNEL void fault_relay(OUT(int) signals, OUT(float) written, OUT(float) seen, int how) {
    const int block = (int)blockIdx.x, from = how == ONE_THREAD || how == WITHOUT_RELAY ? 0 : 7;
    if (block > 0) {
        if (threadIdx.x == 0) {
            while (load_now(&signals[block - 1]) == 0) __nanosleep(20);
            if (how != WITHOUT_RELAY || block == 2) __threadfence();
        }
        if (how == ONE_WARP) __syncwarp();
        if (how == SHUFFLE) __shfl_sync(FULL_WARP, 0, 0);
    }
    if ((int)threadIdx.x == from) {
        if (block == 0) written[0] = 1.0f;
        else if (block == 2 || how != WITHOUT_RELAY) seen[block] = written[0];
    }
    if (how == ONE_WARP) __syncwarp();
    if (how == SHUFFLE) __shfl_sync(FULL_WARP, 0, 0);
    if (threadIdx.x == 0) {
        if (how != WITHOUT_RELAY || block == 0) __threadfence();
        atomicAdd(&signals[block], 1);
    }
}

KERNEL void fault_no_grid_barrier(OUT(int) arrivals, OUT(float) written, OUT(float) seen) {
    if (threadIdx.x == 0) atomicAdd(&arrivals[0], 1);
    if (threadIdx.x == 0) written[blockIdx.x] = (float)blockIdx.x;
    if (threadIdx.x == 0) seen[blockIdx.x] = written[(blockIdx.x + 1) % gridDim.x];
}

// Sound; how much shared memory it has, the launch says.
KERNEL void fault_dynamic_shared(OUT(float) out) {
    DYNAMIC_SHARED(float, tile);
    tile[threadIdx.x] = (float)threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = tile[(threadIdx.x + 1) % blockDim.x];
}

KERNEL void fault_misaligned(IN(float) numbers, OUT(float) out) { store4(out, 0, load4(numbers, 1)); }
