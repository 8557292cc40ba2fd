/* Instructions that every machine of the kind has. */

#define ISA base
#define VECTOR_BYTES 16
#include "instance.h"
