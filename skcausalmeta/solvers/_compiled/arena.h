/* Memory of one task: a stack of blocks, given back at once. */

#ifndef SKCM_ARENA_H
#define SKCM_ARENA_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_ALIGN 64
#define ARENA_BLOCK ((size_t)1 << 18)

typedef struct Block {
    struct Block *below;
    size_t size, used;
} Block;

typedef struct {
    Block *top;
    int failed;
} Arena;

/* Where the stack stood; what was taken since goes back to it by arena_release. */
typedef struct {
    Block *top;
    size_t used;
} Mark;

static Mark arena_mark(const Arena *arena)
{
    Mark mark = {arena->top, arena->top ? arena->top->used : 0};
    return mark;
}

static void arena_release(Arena *arena, Mark mark)
{
    while (arena->top != mark.top) {
        Block *block = arena->top;
        arena->top = block->below;
        free(block);
    }
    if (arena->top)
        arena->top->used = mark.used;
}

static void arena_free(Arena *arena)
{
    Mark empty = {NULL, 0};
    arena_release(arena, empty);
}

/* Bytes on a cache line of their own; NULL, remembered in `failed`, if there are
   none left. */
static void *arena_take(Arena *arena, size_t bytes)
{
    Block *top = arena->top;
    size_t head = (sizeof(Block) + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    char *base;
    bytes = (bytes + 2 * ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    if (!top || top->size - top->used < bytes) {
        size_t size = bytes > ARENA_BLOCK ? bytes : ARENA_BLOCK;
        Block *block = (Block *)malloc(head + size + ARENA_ALIGN);
        if (!block) {
            arena->failed = 1;
            return NULL;
        }
        block->below = top;
        block->size = size;
        block->used = 0;
        arena->top = top = block;
    }
    base = (char *)top + head + top->used;
    base += (ARENA_ALIGN - (uintptr_t)base % ARENA_ALIGN) % ARENA_ALIGN;
    top->used += bytes;
    return base;
}

static void *arena_zeros(Arena *arena, size_t bytes)
{
    void *memory = arena_take(arena, bytes);
    if (memory)
        memset(memory, 0, bytes);
    return memory;
}

#endif
