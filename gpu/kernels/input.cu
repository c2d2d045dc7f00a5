// Tokens that came from the device: whether every number is finite.                                              NUM-7
//
//   flag[0] = 16 chunk + FLAG_INPUT, flag[tensor] = the first row that holds a number that is not finite
//
// Such a number is replaced by 0 in the queue, so that no later kernel meets it; the raised flag keeps all of them from writing
// the tables.
//
// Shapes     numbers [rows, width], rows of the queue from first_row on; flag [4]: what was not finite, then a row for each tensor
// Grid       blocks of 256 over the numbers, each thread takes every so many-th
//
// Departures from the reference
//   1. The call is not refused as a whole: tokens before the number are read, and it is reported when the host next waits.

KERNEL void __launch_bounds__(256)
input_check(OUT(int) flag, int chunk, int tensor, OUT(float) numbers, int first_row, int rows, int width) {
    const Index count = (Index)rows * width;
    for (Index at = (Index)blockIdx.x * 256 + threadIdx.x; at < count; at += (Index)gridDim.x * 256) {
        if (isfinite((float)numbers[at])) continue;
        numbers[at] = 0.0f;
        // Only of the first chunk that fails.
        if (atomicMin(&flag[0], chunk * 16 + FLAG_INPUT) >= chunk * 16) atomicMin(&flag[tensor], first_row + (int)(at / width));
    }
}
