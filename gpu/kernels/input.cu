// Tokens that came from the device: whether every number is finite.                                              NUM-7
//
//   flag[0] = 16 chunk + FLAG_INPUT, flag[tensor] = the first row that holds a number that is not finite
//
// Such a number is replaced by 0 in the queue, so that no later kernel meets it; the raised flag keeps all of them from writing
// the tables.
//
// Shapes     queries [rows, HEADS, 2 HALF_DIM], values [rows, VALUE_DIM], gates [rows], rows of the queue from first_row on;
//            flag: what was not finite, a row for each tensor, the number of the chunk
// Grid       blocks of 256 over the numbers, each thread takes every so many-th
//
// Departures from the reference
//   1. The call is not refused as a whole: tokens before the number are read, and it is reported when the host next waits.

// A number of this row is not finite.
DEVICE void report_input(OUT(int) flag, int tensor, int row) {
    // Only of the first chunk that fails.
    const int first = flag[FLAG_CHUNK] * 16;
    if (atomicMin(&flag[0], first + FLAG_INPUT) >= first) atomicMin(&flag[tensor], row);
}

DEVICE void check_numbers(OUT(int) flag, int tensor, OUT(float) numbers, int first_row, int rows, int width) {
    const Index count = (Index)rows * width;
    for (Index at = (Index)blockIdx.x * 256 + threadIdx.x; at < count; at += (Index)gridDim.x * 256) {
        if (isfinite((float)numbers[at])) continue;
        numbers[at] = 0.0f;
        report_input(flag, tensor, first_row + (int)(at / width));
    }
}

KERNEL void __launch_bounds__(256)
input_check(OUT(int) flag, OUT(float) queries, OUT(float) values, OUT(float) gates, int has_gates, int first_row, int rows) {
    check_numbers(flag, 1, queries, first_row, rows, HEADS * 2 * HALF_DIM);
    check_numbers(flag, 2, values, first_row, rows, VALUE_DIM);
    if (has_gates) check_numbers(flag, 3, gates, first_row, rows, 1);
}

// Whether what this thread of 128 sees of `width` numbers is finite; they begin at 16 bytes where `width` is a multiple of 4.
DEVICE bool sees_finite(IN(float) numbers, int width, int t) {
    bool finite = true;
    if (width % 4 != 0) {
        for (int d = t; d < width; d += 128) finite &= isfinite(numbers[d]);
        return finite;
    }
#pragma unroll 2
    for (int d = t * 4; d < width; d += 512) {
        const float4 x = load4(numbers, d);
        finite &= isfinite(x.x) && isfinite(x.y) && isfinite(x.z) && isfinite(x.w);
    }
    return finite;
}

// 128 threads, of which this is number t, look at a row and leave its numbers as they are.
DEVICE void check_row(int row, int t, OUT(int) flag, IN(float) queries, IN(float) values, IN(float) gates, int has_gates) {
    const int width = HEADS * 2 * HALF_DIM;
    if (!sees_finite(queries + (Index)row * width, width, t)) report_input(flag, 1, row);
    if (!sees_finite(values + (Index)row * VALUE_DIM, VALUE_DIM, t)) report_input(flag, 2, row);
    if (has_gates && t == 0 && !isfinite(gates[row])) report_input(flag, 3, row);
}
