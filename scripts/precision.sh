#!/usr/bin/env bash
# Prints the number format that is fastest on this processor: bfloat16 where it multiplies
# it (elsewhere that would be far slower), else float32.
if grep -qE "avx512_bf16|amx_bf16" /proc/cpuinfo 2>/dev/null; then
  echo mixed_bfloat16
else
  echo float32
fi
