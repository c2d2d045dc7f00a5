#!/usr/bin/env bash
# Everything that needs a GPU, in under ten minutes: tests, certified vectors, sanitizers, benchmark. The table comes last.
#
#     gpu/device-check.sh pack FOLDER    where Rust is: builds, and puts all that is needed into FOLDER
#     FOLDER/device-check.sh             where the GPU is: needs a driver, NVRTC and libstdc++, neither Rust nor a compiler
#     FOLDER/device-check.sh --quick     the same on little work, to see that it runs; its times mean nothing
#
# Exit status: 0 all passed; 1 something failed, the last line says what; 2 this machine cannot run it, and why.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)

fail() { printf 'device-check: %s\n' "$2" >&2; exit "$1"; }
step() { printf '\n== %s\n' "$*"; }

# Copies the test binary that cargo names for gpu/tests/$1.rs.
pack_test() {
    local binary
    binary=$(cargo test --no-run -p fwpkm-gpu --features emulator --locked --test "$1" 2>&1 |
        sed -n "s/.*Executable.*(\(.*\))$/\1/p") && [ -n "$binary" ] || fail 1 "no test binary $1"
    cp "$binary" "$2/$1-test"
}

if [ "${1:-}" = pack ]; then
    [ $# -eq 2 ] || fail 2 "usage: gpu/device-check.sh pack FOLDER"
    mkdir -p "$2" && folder=$(cd "$2" && pwd) || fail 2 "cannot make $2"
    cd "$here/.." || fail 2 "no $here/.."
    cargo build --release --features emulator --locked || fail 1 "the command does not build"
    cp "${CARGO_TARGET_DIR:-target}/release/fwpkm" "$here/device-check.sh" "$folder/" || fail 1 "cannot copy the command"
    pack_test device "$folder"
    rm -rf "$folder/vectors"
    cp -R spec/vectors/certified "$folder/vectors" || fail 1 "cannot copy the vectors"
    printf 'packed into %s\n' "$folder"
    exit 0
fi
tokens=131072
extent=()
if [ "${1:-}" = --quick ]; then
    tokens=1024
    extent=(--tiny)
    shift
fi
[ $# -eq 0 ] || fail 2 "usage: device-check.sh [--quick], beside what \`gpu/device-check.sh pack FOLDER\` built"

cd "$here" || fail 2 "no $here"
for file in fwpkm device-test vectors; do
    [ -e "$file" ] || fail 2 "no $file here; run \`gpu/device-check.sh pack FOLDER\` where Rust is, then FOLDER/device-check.sh"
done

step "the machine"
./fwpkm doctor || fail 2 "this machine is not ready for --backend cuda; what it lacks stands above"

step "the same bits as the emulator"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
timeout 240 ./device-test --nocapture 2>&1 | tee "$log"
[ "${PIPESTATUS[0]}" -eq 0 ] || fail 1 "tests on the device"
! grep -q '^not run' "$log" || fail 1 "tests on the device did not run"

step "the certified vectors"
timeout 300 ./fwpkm check --backend cuda --vectors vectors || fail 1 "certified vectors on the device"

step "$tokens tokens, as a whole and chunk by chunk"
timeout 180 ./fwpkm check --backend cuda --long "$tokens" || fail 1 "a long text on the device"

if command -v compute-sanitizer > /dev/null; then
    for tool in memcheck racecheck; do
        for case in paper/str_1_carry_cut release/mem_4_heads_and_sequences; do
            step "compute-sanitizer $tool on $case"
            timeout 30 compute-sanitizer --tool "$tool" --error-exitcode 9 \
                ./fwpkm check --backend cuda --vectors vectors --case "$case" || fail 1 "compute-sanitizer $tool on $case"
        done
        step "compute-sanitizer $tool on whole chunks in one launch"
        timeout 120 compute-sanitizer --tool "$tool" --error-exitcode 9 \
            ./device-test whole_chunks || fail 1 "compute-sanitizer $tool on whole chunks"
    done
else
    step "compute-sanitizer is not here: memcheck and racecheck were not run"
fi

step "times"
timeout 150 ./fwpkm bench --backend cuda ${extent[@]+"${extent[@]}"} || fail 1 "the benchmark"
