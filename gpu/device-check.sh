#!/usr/bin/env bash
# Everything that needs a GPU, in under ten minutes: tests, times, certified vectors, sanitizers. The table of times comes last.
#
#     gpu/device-check.sh pack FOLDER    where Rust is: builds, and puts all that is needed into FOLDER
#     FOLDER/device-check.sh             where the GPU is: needs a driver, NVRTC and libstdc++, neither Rust nor a compiler
#     FOLDER/device-check.sh --quick     the same on little work, to see that it runs; its times mean nothing
#
# What fails does not keep the rest from running. Every step leaves a log in $OUT, else in FOLDER/out, and the benchmark its
# JSON document. FWPKM_CHECK_SECONDS is the time for all of it, 570 unless given.
#
# Exit status: 0 all passed; 1 something failed, or had no time left: the last lines say what; 2 this machine cannot run it, and
# why. A sanitizer that is not installed, or does not support the device, is named as not run, and is no failure.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)

fail() { printf 'device-check: %s\n' "$2" >&2; exit "$1"; }
step() { printf '\n== %s\n' "$*"; }

# Copies the test binary that cargo names for gpu/tests/$1.rs, as `cargo test --workspace` builds it.
pack_test() {
    local binary
    binary=$(cargo test --no-run --workspace --features emulator --locked --test "$1" 2>&1 |
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
    # With the names of its functions the pack is twenty times as large.
    strip "$folder/fwpkm" "$folder/device-test" || fail 1 "cannot strip the programs; binutils has \`strip\`"
    rm -rf "$folder/vectors"
    cp -R spec/vectors/certified "$folder/vectors" || fail 1 "cannot copy the vectors"
    printf 'packed into %s\n' "$folder"
    exit 0
fi

tokens=131072
extent=()
patience=180
if [ "${1:-}" = --quick ]; then
    tokens=1024
    extent=(--tiny)
    # Where the device is the emulator, the tests take minutes.
    patience=1200
    shift
fi
[ $# -eq 0 ] || fail 2 "usage: device-check.sh [--quick], beside what \`gpu/device-check.sh pack FOLDER\` built"

cd "$here" || fail 2 "no $here"
for file in fwpkm device-test vectors; do
    [ -e "$file" ] || fail 2 "no $file here; run \`gpu/device-check.sh pack FOLDER\` where Rust is, then FOLDER/device-check.sh"
done
limit=${FWPKM_CHECK_SECONDS:-570}
out=${OUT:-$here/out}
mkdir -p "$out" && rm -f "$out"/{machine,tests,bench,vectors,text,sanitizers}.log "$out/bench.json" || fail 2 "cannot write to $out"
failed=()
not_run=()

# try LOG SECONDS NAME COMMAND...: runs a command, for at most SECONDS and no longer than there is time at all. Its output goes to
# $out/LOG.log as well; what this step wrote there is in $printed after it.
try() {
    local log=$out/$1.log most=$2 name=$3 left=$((limit - SECONDS)) status before
    shift 3
    step "$name"
    printed=
    [ "$left" -ge 5 ] || { failed+=("$name: no time left"); return 1; }
    [ "$most" -le "$left" ] || most=$left
    printf '== %s\n' "$name" >> "$log"
    before=$(wc -c < "$log")
    timeout -k 5 "$most" "$@" 2>&1 | tee -a "$log"
    status=${PIPESTATUS[0]}
    printed=$(tail -c "+$((before + 1))" "$log")
    case $status in
        0) return 0 ;;
        124 | 137) reason="did not end in $most s" ;;
        *) reason="exit status $status" ;;
    esac
    if grep -q 'Device not supported' <<< "$printed"; then
        not_run+=("$name: it does not support the device")
    else
        failed+=("$name: $reason")
    fi
    return 1
}

# NVRTC of a Python wheel or of a toolkit, and a mounted driver, are often outside of where libraries are looked for. What is found
# without these folders comes first.
ready() { ./fwpkm doctor > /dev/null 2>&1; }
add_folders() {
    local python root folder
    while read -r root; do
        for folder in "$root"/cu1[0-9]/lib "$root/cuda_nvrtc/lib" /usr/local/cuda/lib64 /usr/local/nvidia/lib64; do
            case ":${LD_LIBRARY_PATH:-}:" in *":$folder:"*) continue ;; esac
            [ ! -d "$folder" ] || export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder"
        done
    done < <(
        for python in python3 python; do
            "$python" -c 'import nvidia; print(*nvidia.__path__, sep="\n")' 2> /dev/null
        done
        echo /usr/local/nvidia
    )
}
ready || add_folders
[ ! -d /usr/local/cuda/bin ] || export PATH="$PATH:/usr/local/cuda/bin"

try machine 60 "the machine" ./fwpkm doctor || fail 2 "this machine is not ready for --backend cuda; what it lacks stands above"

if try tests "$patience" "the same bits as the emulator" ./device-test --nocapture && grep -q 'not run: ' <<< "$printed"; then
    failed+=("the same bits as the emulator: tests found no device")
fi
try bench 240 "times" ./fwpkm bench --backend cuda --out "$out/bench.json" ${extent[@]+"${extent[@]}"}
times=$printed
try vectors 150 "the certified vectors" ./fwpkm check --backend cuda --vectors vectors
try text 150 "$tokens tokens, as a whole and chunk by chunk" ./fwpkm check --backend cuda --long "$tokens"

# Few blocks in a launch of whole chunks: as many as fit without a sanitizer may not fit with it.
sanitize() {
    try sanitizers "$1" "$2 on $3" env FWPKM_WALK_BLOCKS=8 compute-sanitizer --tool "$2" --error-exitcode 9 "${@:4}"
}
for tool in memcheck racecheck initcheck synccheck; do
    if ! command -v compute-sanitizer > /dev/null; then
        not_run+=("$tool: compute-sanitizer is not installed")
        continue
    fi
    for case in paper/str_1_carry_cut release/mem_4_heads_and_sequences; do
        sanitize 30 "$tool" "$case" ./fwpkm check --backend cuda --vectors vectors --case "$case"
    done
    sanitize 120 "$tool" "whole chunks in one launch" ./device-test whole_chunks
done

step "times"
printf '%s\n' "${times:-none}"
step "in $SECONDS s, with logs in $out"
for name in ${not_run[@]+"${not_run[@]}"}; do printf 'not run: %s\n' "$name"; done
for name in ${failed[@]+"${failed[@]}"}; do printf 'FAILED: %s\n' "$name"; done
[ ${#failed[@]} -eq 0 ] || exit 1
echo "all passed"
