#!/bin/sh
# Builds the simulator and its own test into a folder (a new one without an argument) and runs it: selftest.sh [OUTDIR]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$(mktemp -d)}
"$here/build.sh" "$out"
"${CXX:-g++}" -std=c++17 -O2 -Wall -Wextra -o "$out/selftest" "$here"/selftest*.cpp -ldl
for warp in 32 64; do
    for order in forward reverse; do
        echo "warp $warp, $order"
        GGRS_SIM_WARP=$warp GGRS_SIM_ORDER=$order GGRS_SIM_TIMEOUT=2 "$out/selftest" "$out" 2>"$out/selftest.log" ||
            { tail -n 40 "$out/selftest.log"; exit 1; }
    done
done
