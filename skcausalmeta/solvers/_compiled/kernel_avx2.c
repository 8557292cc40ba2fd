/* x86-64 of 2013 and later; called only where the machine has the instructions. */

#if defined(__GNUC__) && defined(__x86_64__)
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif
#define ISA avx2
#include "instance.h"
#if defined(__clang__) && defined(__x86_64__)
#pragma clang attribute pop
#endif
