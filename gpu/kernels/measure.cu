// What the device can do, for floors beside measured times; no stage uses it.
//
//   each thread runs 8 chains x <- x / 2 + 1, rounds steps each: 16 rounds operations, no memory; sums[thread] -> 16
//
// Grid       blocks of 256

KERNEL void __launch_bounds__(256)
measure_fma(OUT(float) sums, int rounds) {
    const int t = (int)(blockIdx.x * 256 + threadIdx.x);
    float x[8];
#pragma unroll
    for (int i = 0; i < 8; i++) x[i] = (float)((t + i) % 5);
    for (int round = 0; round < rounds; round++) {
#pragma unroll
        for (int i = 0; i < 8; i++) x[i] = fmaf(x[i], 0.5f, 1.0f);
    }
    float sum = 0.0f;
    for (int i = 0; i < 8; i++) sum += x[i];
    sums[t] = sum;
}
