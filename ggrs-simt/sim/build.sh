#!/bin/sh
# Builds the simulator's driver, compiler and NCCL into a folder: build.sh OUTDIR
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?a folder to build into}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cxx=${CXX:-g++}
# Lanes of a warp, unless the environment says otherwise when it runs.
warp=${GGRS_SIM_WARP:-32}
flags="-std=c++17 -O2 -fno-tree-vectorize -fPIC -fvisibility=hidden -Wall -Wextra -pthread -DGGRS_SIM_DEFAULT_WARP=$warp"
# What is there already and of these very sources stays.
stamp=$({ echo "$cxx $flags"; "$cxx" --version; cat "$here"/*.cpp "$here"/*.h "$here/build.sh"; } | cksum)
if [ -f "$out/stamp" ] && [ "$(cat "$out/stamp")" = "$stamp" ]; then exit 0; fi
objects=$(mktemp -d "$out/objects.XXXXXX")
trap 'rm -rf "$objects"' EXIT

engine="engine memory fibers collectives signals modules grids streams captures"
cuda="cuda_devices cuda_memory cuda_streams cuda_launches"
compiler="compiler nvrtc_api"
nccl="nccl_api"
for file in $engine $cuda $compiler $nccl; do
    echo "$file"
done | xargs -P "$(nproc)" -I FILE "$cxx" $flags -c "$here/FILE.cpp" -o "$objects/FILE.o"

link() {
    name=$1
    shift
    files=""
    for file in "$@"; do
        case $file in
        *.so*) files="$files $file" ;;
        *) files="$files $objects/$file.o" ;;
        esac
    done
    # A process that runs may have the old one open.
    # shellcheck disable=SC2086
    "$cxx" -shared -pthread -Wl,-soname,"$name" -Wl,-z,defs -Wl,-z,nodelete -o "$objects/$name" $files -ldl
    mv "$objects/$name" "$out/$name"
    ln -sf "$name" "$out/${name%.so*}.so"
}
# shellcheck disable=SC2086
link libcuda.so.1 $engine $cuda
# shellcheck disable=SC2086
link libnvrtc.so.13 $compiler
# shellcheck disable=SC2086
link libnccl.so.2 $nccl "$out/libcuda.so.1"
cp "$here"/device*.h "$objects"/
mv "$objects"/device*.h "$out"/
echo "$stamp" >"$objects/stamp"
mv "$objects/stamp" "$out/stamp"
