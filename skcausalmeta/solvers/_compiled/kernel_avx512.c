/* x86-64 with AVX-512; called only where the machine has the instructions. */

#if defined(__GNUC__) && defined(__x86_64__)
#ifdef __clang__
#pragma clang attribute push(                                                       \
    __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512vl,avx512bw,fma,prefer-vector-width=512")
#endif
#define VECTOR_BYTES 64
#else
#define VECTOR_BYTES 16
#endif
#define ISA avx512
#include "instance.h"
#if defined(__clang__) && defined(__x86_64__)
#pragma clang attribute pop
#endif
