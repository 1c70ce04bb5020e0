#!/usr/bin/env bash
# Tests of the CUDA backend on a GPU:
#
#   test/check_gpu.sh            builds and runs them (gcc, make and nvcc are all it needs)
#   test/check_gpu.sh bench      measures instead: tokens per second of BERT-base to DistilBERT training (PyTorch's beside it) and of BERT-base embeddings,
#                                few texts also without graphs
#
# On a machine without a GPU the module must say so by name; everything else is skipped.
# NVCC=path chooses the compiler, CUDA_ARCHITECTURES its targets (default: this GPU's).  cuBLASLt and NCCL are found where the loader
# finds them or where a Python has PyTorch; without cuBLASLt the own kernels run.  Several GPUs are tested where there are some.
# Closing line: "N passed, N failed, N skipped".
set -euo pipefail
cd "$(dirname "$0")/.."

nvcc=${NVCC:-$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null || true)}
[ -n "$nvcc" ] || { echo "skipped: no nvcc here"; echo "0 passed, 0 failed, 1 skipped"; exit 0; }
work=$(mktemp -d /var/tmp/distil-gpu.XXXXXX)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0 skipped=0

gpu=
if nvidia-smi -L >"$work/gpus" 2>&1 && grep -q '^GPU' "$work/gpus"; then gpu=yes; fi

# The libraries that PyTorch brings.
lib=$(python3 -c 'import glob, os, torch
print(":".join(sorted({os.path.dirname(f) for f in glob.glob(os.path.join(os.path.dirname(os.path.dirname(torch.__file__)), "nvidia", "**", "lib*.so*"), recursive=True) if os.path.basename(f).startswith(("libcublas", "libnccl"))})))' 2>/dev/null || true)
[ -z "$lib" ] || export LD_LIBRARY_PATH=$lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

# run NAME COMMAND...: adds up its "N passed, N failed" lines.
run() {
  local name=$1 status=0 p f
  shift
  timeout 900 "$@" >"$work/log" 2>&1 || status=$?
  p=$(grep -oE '[0-9]+ passed' "$work/log" | awk '{n += $1} END {print n + 0}')
  f=$(grep -oE '[0-9]+ failed' "$work/log" | awk '{n += $1} END {print n + 0}')
  [ "$status" = 0 ] || [ "$f" -gt 0 ] || f=1
  passed=$((passed + p)) failed=$((failed + f))
  printf '%-24s %6d passed %4d failed\n' "$name" "$p" "$f"
  [ "$f" = 0 ] || tail -n 40 "$work/log"
}

arch=${CUDA_ARCHITECTURES:-}
if [ -z "$arch" ]; then
  cap=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d . || true)
  [ -n "$gpu" ] && arch="-gencode=arch=compute_$cap,code=sm_$cap" || arch="-gencode=arch=compute_80,code=sm_80"
fi
make -s -j"$(nproc)" gpu-tests BUILD="$work" NVCC="$nvcc" CUDA_ARCHITECTURES="$arch"
tests=$work/unit/gpu
symbols=$(nm -D --defined-only "$tests/distil_cuda.so" | awk '$2 == "T" {print $3}' | grep -v '^_' | sort | tr '\n' ' ')
if [ "$symbols" = "distil_cuda_check distil_cuda_open distil_cuda_open_group " ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "exported: $symbols"; fi

# Kernels that are to use the tensor cores do, and none keeps its registers in memory.
sass=$(command -v cuobjdump || python3 -c 'import glob, os, triton; print(glob.glob(os.path.dirname(triton.__file__) + "/**/cuobjdump", recursive=True)[0])' 2>/dev/null || true)
if [ -n "$sass" ]; then
  "$sass" --dump-sass "$tests/distil_cuda.so" | awk '/Function :/ {f = $3; if (f ~ /bf16|backward_queries|backward_keys/) all[f] = 1}
    /HMMA|HGMMA/ {mma[f] = 1} /LDL|STL/ {local[f] = 1}
    END {for (f in all) if (mma[f] && !local[f]) good++; else {bad++; print f ": " (mma[f] ? "local memory" : "no tensor cores") > "/dev/stderr"}
      printf "%d passed, %d failed\n", good, bad}' >"$work/sass"
  run disassembly cat "$work/sass"
else
  skipped=$((skipped + 1)); echo "skipped: no cuobjdump here"
fi

if [ -z "$gpu" ]; then
  if "$tests/test_cuda_products" >"$work/log" 2>&1; then failed=$((failed + 1)); echo "a GPU was found where there is none"
  elif grep -qE 'the NVIDIA driver is missing|no CUDA device can be used' "$work/log"; then passed=$((passed + 1))
  else failed=$((failed + 1)); cat "$work/log"; fi
  skipped=$((skipped + 1))
  echo "skipped: tests on a GPU, there is none here"
elif [ "${1:-}" != bench ]; then
  cat "$work/gpus"
  for t in "$tests"/test_*; do
    run "${t##*/}" "$t"
  done
  # NCCL with one rank: the same losses as without
  run "group of one" bash -c "set -eo pipefail; '$tests/gpu_train' cuda float32 tiny 8 16 | grep loss >'$work/alone'
    '$tests/gpu_train' 'cuda*1' float32 tiny 8 16 | grep loss | cmp - '$work/alone' && echo '1 passed, 0 failed'"
  run checkpoint bash -c "'$tests/gpu_train' cuda float32 tiny 20 16 '$work/checkpoint' && echo '1 passed, 0 failed'"
  if command -v compute-sanitizer >/dev/null && ! compute-sanitizer "$tests/test_cuda_graph" 2>&1 | grep -q 'Device not supported'; then
    for tool in memcheck racecheck initcheck synccheck; do
      for t in test_cuda_products test_kernel_half; do
        run "$tool ${t#test_}" compute-sanitizer --tool $tool --error-exitcode 1 "$tests/$t"
      done
    done
  else
    skipped=$((skipped + 1)); echo "skipped: compute-sanitizer is not here, or does not know this GPU"
  fi
fi
if [ -n "$gpu" ] && [ "${1:-}" = bench ]; then
  nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,power.limit --format=csv
  for precision in bf16 tf32; do
    timeout 300 "$tests/gpu_train" cuda $precision embed 20 2048 | tail -n 1 | sed "s/^/cuda $precision: /" || true
    for n in 1 8 32; do
      timeout 300 "$tests/gpu_train" cuda $precision embed 300 $n | tail -n 1 | sed "s/^/cuda $precision, $n texts, graph: /" || true
      timeout 300 "$tests/gpu_train" cuda $precision embed 300 $n launches | tail -n 1 | sed "s/^/cuda $precision, $n texts, launches: /" || true
    done
    timeout 300 "$tests/gpu_train" cuda $precision base 20 256 | tail -n 1 || true
    n=$(grep -c '^GPU' "$work/gpus")
    [ "$n" = 1 ] || timeout 300 "$tests/gpu_train" "cuda*$n" $precision base 20 $((256 * n)) | tail -n 1 || true
    timeout 300 "$tests/gpu_train" cuda $precision base 20 256 masked | tail -n 1 | sed 's/:/, losses on masked tokens:/' || true
  done
  timeout 300 python3 test/bench/gpu_recipe.py || echo "skipped: no PyTorch with transformers here"
fi
printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
