/* SPDX-License-Identifier: MIT */
/*
 * The stack machine. Every opcode is one case of execute(); whatever is not there is refused by
 * name of its byte and offset. Nodes are made in the arena and never freed singly; lists and
 * dictionaries grow by copying. Nothing recurses, so a pickle that refers to itself is harmless.
 *
 * To allow another name to be called: add it to `globals` and say in reduce() what it yields.
 */
#include "compress/pickle.h"

#include "base/arena.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_STACK = 1 << 16, MAX_MEMO = 1 << 21 };

enum kind {
    KIND_NONE,
    KIND_BOOL,
    KIND_INT,
    KIND_TEXT,
    KIND_GLOBAL,
    KIND_TUPLE,
    KIND_LIST,
    KIND_DICT,
    KIND_MARK,
    KIND_STORAGE,
    KIND_TENSOR,
};

/* The names a pickle may use, and no others. */
enum global {
    GLOBAL_REBUILD_TENSOR,
    GLOBAL_REBUILD_PARAMETER,
    GLOBAL_ORDERED_DICT,
    GLOBAL_FLOAT_STORAGE,
    GLOBAL_HALF_STORAGE,
    GLOBAL_BFLOAT16_STORAGE,
    GLOBAL_COUNT
};

static const struct {
    const char *module, *name;
} globals[GLOBAL_COUNT] = {
    [GLOBAL_REBUILD_TENSOR] = { "torch._utils", "_rebuild_tensor_v2" },
    [GLOBAL_REBUILD_PARAMETER] = { "torch._utils", "_rebuild_parameter" },
    [GLOBAL_ORDERED_DICT] = { "collections", "OrderedDict" },
    [GLOBAL_FLOAT_STORAGE] = { "torch", "FloatStorage" },
    [GLOBAL_HALF_STORAGE] = { "torch", "HalfStorage" },
    [GLOBAL_BFLOAT16_STORAGE] = { "torch", "BFloat16Storage" },
};

struct storage {
    enum rwl_source_type type;
    const char *key;
    uint64_t values;
};

struct node {
    enum kind kind;
    union {
        int64_t number;     /* BOOL, INT */
        const char *text;   /* TEXT */
        enum global global; /* GLOBAL */
        struct {
            struct node **items; /* DICT: key, value, key, value, ... */
            uint32_t count, capacity;
        } list; /* TUPLE, LIST, DICT */
        struct storage storage;
        struct rwl_pickle_tensor *tensor;
    } u;
};

struct machine {
    const uint8_t *data;
    size_t size, at;
    const char *path;
    struct rwl_arena *arena;
    struct rwl_error *err;
    struct node **stack; /* [MAX_STACK] */
    uint32_t depth;
    struct node **memo; /* grows up to MAX_MEMO */
    uint32_t memo_capacity, memo_next;
};

static int fail(struct machine *m, const char *what)
{
    return rwl_error_set(m->err, RWL_ERR_BAD_FILE, "%s: pickle at byte %zu: %s", m->path, m->at,
                         what);
}

static int fail_memory(struct machine *m)
{
    return rwl_error_set(m->err, RWL_ERR_LIMIT, "%s: pickle needs more memory than allowed",
                         m->path);
}

static int push(struct machine *m, struct node *node)
{
    if (m->depth == MAX_STACK)
        return fail(m, "stack too deep");
    m->stack[m->depth++] = node;
    return 0;
}

/* A new node of that kind on the stack. */
static int push_new(struct machine *m, enum kind kind, struct node **ret_node)
{
    struct node *node = rwl_arena_alloc(m->arena, sizeof *node);
    if (!node)
        return fail_memory(m);
    node->kind = kind;
    int result = push(m, node);
    if (!result)
        *ret_node = node;
    return result;
}

static int push_number(struct machine *m, enum kind kind, int64_t number)
{
    struct node *node = NULL;
    int result = push_new(m, kind, &node);
    if (!result)
        node->u.number = number;
    return result;
}

/* The top node, which must be of that kind, taken from the stack; NULL otherwise. */
static struct node *pop(struct machine *m, enum kind kind)
{
    if (m->depth == 0 || m->stack[m->depth - 1]->kind != kind)
        return NULL;
    return m->stack[--m->depth];
}

static int take(struct machine *m, size_t size, const uint8_t **ret_data)
{
    if (size > m->size - m->at)
        return fail(m, "cut off");
    *ret_data = m->data + m->at;
    m->at += size;
    return 0;
}

/* A little-endian unsigned number of 1 to 8 bytes. */
static int take_number(struct machine *m, size_t size, uint64_t *ret_number)
{
    const uint8_t *data = NULL;
    int result = take(m, size, &data);
    if (result)
        return result;
    uint64_t number = 0;
    for (size_t i = 0; i < size; i++)
        number |= (uint64_t)data[i] << 8 * i;
    *ret_number = number;
    return 0;
}

/* The rest of the line, newline taken and left out. */
static int take_line(struct machine *m, const char **ret_line, size_t *ret_size)
{
    const uint8_t *start = m->data + m->at;
    const uint8_t *end = memchr(start, '\n', m->size - m->at);
    if (!end)
        return fail(m, "cut off");
    *ret_line = (const char *)start;
    *ret_size = (size_t)(end - start);
    m->at += *ret_size + 1;
    return 0;
}

static bool equals(const char *text, const char *data, size_t size)
{
    return strlen(text) == size && memcmp(text, data, size) == 0;
}

static int push_global(struct machine *m, const char *module, size_t module_size, const char *name,
                       size_t name_size)
{
    for (int i = 0; i < GLOBAL_COUNT; i++)
        if (equals(globals[i].module, module, module_size) &&
            equals(globals[i].name, name, name_size)) {
            struct node *node = NULL;
            int result = push_new(m, KIND_GLOBAL, &node);
            if (!result)
                node->u.global = (enum global)i;
            return result;
        }
    return rwl_error_set(m->err, RWL_ERR_BAD_FILE,
                         "%s: pickle at byte %zu: names '%.*s.%.*s', which no tensor needs",
                         m->path, m->at, module_size < 60 ? (int)module_size : 60, module,
                         name_size < 60 ? (int)name_size : 60, name);
}

static int execute_global(struct machine *m)
{
    const char *module = NULL, *name = NULL;
    size_t module_size = 0, name_size = 0;
    int result = take_line(m, &module, &module_size);
    if (!result)
        result = take_line(m, &name, &name_size);
    return result ? result : push_global(m, module, module_size, name, name_size);
}

static int execute_stack_global(struct machine *m)
{
    struct node *name = pop(m, KIND_TEXT), *module = name ? pop(m, KIND_TEXT) : NULL;
    if (!module)
        return fail(m, "a name is not text");
    return push_global(m, module->u.text, strlen(module->u.text), name->u.text,
                       strlen(name->u.text));
}

static int execute_text(struct machine *m, size_t length_bytes)
{
    uint64_t size = 0;
    const uint8_t *data = NULL;
    int result = take_number(m, length_bytes, &size);
    if (!result)
        result = take(m, (size_t)size, &data);
    if (result)
        return result;
    if (memchr(data, 0, (size_t)size) || !rwl_utf8_valid(data, (size_t)size))
        return fail(m, "text is not UTF-8, or holds a NUL");
    struct node *node = NULL;
    result = push_new(m, KIND_TEXT, &node);
    if (!result && !(node->u.text = rwl_arena_copy(m->arena, data, (size_t)size)))
        return fail_memory(m);
    return result;
}

/* LONG1: a length, then that many bytes of two's complement. */
static int execute_long(struct machine *m)
{
    uint64_t size, number = 0;
    int result = take_number(m, 1, &size);
    if (result)
        return result;
    if (size > 8)
        return fail(m, "a number of more than 8 bytes");
    result = take_number(m, (size_t)size, &number);
    if (result)
        return result;
    if (size > 0 && size < 8 && number >> (8 * size - 1))
        number |= UINT64_MAX << 8 * size;
    return push_number(m, KIND_INT, (int64_t)number);
}

/* Appends count items to a list or dictionary. */
static int extend(struct machine *m, struct node *list, struct node *const *items, uint32_t count)
{
    if (count > UINT32_MAX / 4 - list->u.list.count)
        return fail_memory(m);
    uint32_t needed = list->u.list.count + count;
    if (needed > list->u.list.capacity) {
        uint32_t capacity = needed < 8 ? 8 : needed * 2;
        struct node **grown = rwl_arena_alloc(m->arena, capacity * sizeof(struct node *));
        if (!grown)
            return fail_memory(m);
        if (list->u.list.count)
            memcpy(grown, list->u.list.items, list->u.list.count * sizeof *grown);
        list->u.list.items = grown;
        list->u.list.capacity = capacity;
    }
    if (count)
        memcpy(list->u.list.items + list->u.list.count, items, count * sizeof *items);
    list->u.list.count = needed;
    return 0;
}

/* The position of the topmost mark, or -1. */
static int64_t find_mark(const struct machine *m)
{
    for (uint32_t i = m->depth; i-- > 0;)
        if (m->stack[i]->kind == KIND_MARK)
            return i;
    return -1;
}

/* Replaces the top count nodes (and, below them, a mark if there is one to go) by a tuple. */
static int make_tuple(struct machine *m, uint32_t count, bool marked)
{
    if (count > m->depth)
        return fail(m, "stack is too short for a tuple");
    struct node tuple = { .kind = KIND_TUPLE };
    for (uint32_t i = m->depth - count; i < m->depth; i++)
        if (m->stack[i]->kind == KIND_MARK)
            return fail(m, "a mark inside a tuple");
    int result = extend(m, &tuple, m->stack + m->depth - count, count);
    if (result)
        return result;
    m->depth -= count + marked;
    struct node *node = NULL;
    result = push_new(m, KIND_TUPLE, &node);
    if (!result)
        *node = tuple;
    return result;
}

static int execute_tuple(struct machine *m)
{
    int64_t mark = find_mark(m);
    if (mark < 0)
        return fail(m, "a tuple without its mark");
    return make_tuple(m, m->depth - (uint32_t)mark - 1, true);
}

/* SETITEM(S) and APPEND(S): moves the top count nodes into the container under them. */
static int fill(struct machine *m, enum kind kind, uint32_t count, bool marked)
{
    if (m->depth < count + marked + 1)
        return fail(m, "stack is too short");
    struct node *container = m->stack[m->depth - count - marked - 1];
    if (container->kind != kind || (kind == KIND_DICT && count % 2))
        return fail(m, "items for something that takes none");
    for (uint32_t i = m->depth - count; i < m->depth; i++)
        if (m->stack[i]->kind == KIND_MARK)
            return fail(m, "a mark among items");
    int result = extend(m, container, m->stack + m->depth - count, count);
    m->depth -= count + marked;
    return result;
}

static int fill_marked(struct machine *m, enum kind kind)
{
    int64_t mark = find_mark(m);
    if (mark < 0)
        return fail(m, "items without their mark");
    return fill(m, kind, m->depth - (uint32_t)mark - 1, true);
}

/* BINPERSID: ('storage', type, key, place, numbers) on the stack becomes a storage. */
static int execute_storage(struct machine *m)
{
    struct node *tuple = pop(m, KIND_TUPLE);
    struct node **item = tuple ? tuple->u.list.items : NULL;
    if (!tuple || tuple->u.list.count != 5 || item[0]->kind != KIND_TEXT ||
        strcmp(item[0]->u.text, "storage") != 0 || item[1]->kind != KIND_GLOBAL ||
        item[2]->kind != KIND_TEXT || item[4]->kind != KIND_INT || item[4]->u.number < 0)
        return fail(m, "a persistent ID that is no storage");
    struct storage storage = { .key = item[2]->u.text, .values = (uint64_t)item[4]->u.number };
    switch (item[1]->u.global) {
    case GLOBAL_FLOAT_STORAGE: storage.type = RWL_SOURCE_F32; break;
    case GLOBAL_HALF_STORAGE: storage.type = RWL_SOURCE_F16; break;
    case GLOBAL_BFLOAT16_STORAGE: storage.type = RWL_SOURCE_BF16; break;
    default: return fail(m, "a storage of no known type");
    }
    struct node *node = NULL;
    int result = push_new(m, KIND_STORAGE, &node);
    if (!result)
        node->u.storage = storage;
    return result;
}

/* A tuple of non-negative numbers, at most RWL_CHECKPOINT_MAX_DIMS; false if it is none. */
static bool read_sizes(const struct node *tuple, uint64_t *ret_sizes)
{
    if (tuple->kind != KIND_TUPLE || tuple->u.list.count > RWL_CHECKPOINT_MAX_DIMS)
        return false;
    for (uint32_t i = 0; i < tuple->u.list.count; i++) {
        const struct node *item = tuple->u.list.items[i];
        if (item->kind != KIND_INT || item->u.number < 0)
            return false;
        ret_sizes[i] = (uint64_t)item->u.number;
    }
    return true;
}

/* _rebuild_tensor_v2(storage, offset, shape, stride, requires_grad, hooks[, metadata]) */
static int rebuild_tensor(struct machine *m, const struct node *arguments)
{
    struct node **item = arguments->u.list.items;
    uint32_t count = arguments->u.list.count;
    if (count < 6 || count > 7 || item[0]->kind != KIND_STORAGE || item[1]->kind != KIND_INT ||
        item[1]->u.number < 0)
        return fail(m, "a tensor's parts are not those of a tensor");
    struct rwl_pickle_tensor *tensor = rwl_arena_alloc(m->arena, sizeof *tensor);
    if (!tensor)
        return fail_memory(m);
    tensor->type = item[0]->u.storage.type;
    tensor->storage = item[0]->u.storage.key;
    tensor->storage_values = item[0]->u.storage.values;
    tensor->offset = (uint64_t)item[1]->u.number;
    if (!read_sizes(item[2], tensor->shape) || !read_sizes(item[3], tensor->stride) ||
        item[2]->u.list.count != item[3]->u.list.count)
        return fail(m, "a tensor's shape or strides are out of range");
    tensor->dims = item[2]->u.list.count;
    struct node *node = NULL;
    int result = push_new(m, KIND_TENSOR, &node);
    if (!result)
        node->u.tensor = tensor;
    return result;
}

static int execute_reduce(struct machine *m)
{
    struct node *arguments = pop(m, KIND_TUPLE), *callable = NULL;
    if (!arguments || !(callable = pop(m, KIND_GLOBAL)))
        return fail(m, "a call that is none");
    struct node *node = NULL;
    switch (callable->u.global) {
    case GLOBAL_ORDERED_DICT:
        return arguments->u.list.count ? fail(m, "a dictionary made from arguments")
                                       : push_new(m, KIND_DICT, &node);
    case GLOBAL_REBUILD_TENSOR: return rebuild_tensor(m, arguments);
    case GLOBAL_REBUILD_PARAMETER:
        if (arguments->u.list.count != 3 || arguments->u.list.items[0]->kind != KIND_TENSOR)
            return fail(m, "a parameter that is no tensor");
        return push(m, arguments->u.list.items[0]);
    default: return fail(m, "a call of something that cannot be called");
    }
}

/* BUILD: attributes of a dictionary (torch's _metadata); they are left out. */
static int execute_build(struct machine *m)
{
    if (m->depth < 2 || m->stack[m->depth - 1]->kind != KIND_DICT ||
        m->stack[m->depth - 2]->kind != KIND_DICT)
        return fail(m, "attributes for something that takes none");
    m->depth--;
    return 0;
}

static int put_memo(struct machine *m, uint64_t index)
{
    if (m->depth == 0 || m->stack[m->depth - 1]->kind == KIND_MARK)
        return fail(m, "nothing to remember");
    if (index >= MAX_MEMO)
        return fail(m, "remembers too much");
    if (index >= m->memo_capacity) {
        uint32_t capacity = (uint32_t)rwl_align_up(index + 1, 4096) * 2;
        struct node **grown = realloc(m->memo, capacity * sizeof *grown);
        if (!grown)
            return fail_memory(m);
        memset(grown + m->memo_capacity, 0, (capacity - m->memo_capacity) * sizeof *grown);
        m->memo = grown;
        m->memo_capacity = capacity;
    }
    m->memo[index] = m->stack[m->depth - 1];
    if (index >= m->memo_next)
        m->memo_next = (uint32_t)index + 1;
    return 0;
}

static int execute_put(struct machine *m, size_t index_bytes)
{
    uint64_t index = 0;
    int result = take_number(m, index_bytes, &index);
    return result ? result : put_memo(m, index);
}

static int execute_get(struct machine *m, size_t index_bytes)
{
    uint64_t index = 0;
    int result = take_number(m, index_bytes, &index);
    if (result)
        return result;
    if (index >= m->memo_capacity || !m->memo[index])
        return fail(m, "recalls what was never remembered");
    return push(m, m->memo[index]);
}

static int execute_int(struct machine *m, size_t bytes)
{
    uint64_t number = 0;
    int result = take_number(m, bytes, &number);
    if (result)
        return result;
    return push_number(m, KIND_INT, bytes == 4 ? (int64_t)(int32_t)number : (int64_t)number);
}

static int execute_protocol(struct machine *m)
{
    uint64_t version = 0;
    int result = take_number(m, 1, &version);
    if (!result && (version < 2 || version > 5))
        return fail(m, "a protocol other than 2 to 5");
    return result;
}

/* One opcode; the names are those of Python's pickletools. */
static int execute(struct machine *m, uint8_t opcode)
{
    struct node *node = NULL;
    uint64_t ignored = 0;
    switch (opcode) {
    case 0x80: return execute_protocol(m);          /* PROTO */
    case 0x95: return take_number(m, 8, &ignored);  /* FRAME */
    case 'c': return execute_global(m);             /* GLOBAL */
    case 0x93: return execute_stack_global(m);      /* STACK_GLOBAL */
    case 'X': return execute_text(m, 4);            /* BINUNICODE */
    case 0x8c: return execute_text(m, 1);           /* SHORT_BINUNICODE */
    case 'q': return execute_put(m, 1);             /* BINPUT */
    case 'r': return execute_put(m, 4);             /* LONG_BINPUT */
    case 0x94: return put_memo(m, m->memo_next);    /* MEMOIZE */
    case 'h': return execute_get(m, 1);             /* BINGET */
    case 'j': return execute_get(m, 4);             /* LONG_BINGET */
    case '(': return push_new(m, KIND_MARK, &node); /* MARK */
    case ')': return make_tuple(m, 0, false);       /* EMPTY_TUPLE */
    case 't': return execute_tuple(m);              /* TUPLE */
    case 0x85: return make_tuple(m, 1, false);      /* TUPLE1 */
    case 0x86: return make_tuple(m, 2, false);      /* TUPLE2 */
    case 0x87: return make_tuple(m, 3, false);      /* TUPLE3 */
    case '}': return push_new(m, KIND_DICT, &node); /* EMPTY_DICT */
    case ']': return push_new(m, KIND_LIST, &node); /* EMPTY_LIST */
    case 'K': return execute_int(m, 1);             /* BININT1 */
    case 'M': return execute_int(m, 2);             /* BININT2 */
    case 'J': return execute_int(m, 4);             /* BININT */
    case 0x8a: return execute_long(m);              /* LONG1 */
    case 'N': return push_new(m, KIND_NONE, &node); /* NONE */
    case 0x88: return push_number(m, KIND_BOOL, 1); /* NEWTRUE */
    case 0x89: return push_number(m, KIND_BOOL, 0); /* NEWFALSE */
    case 'Q': return execute_storage(m);            /* BINPERSID */
    case 'R': return execute_reduce(m);             /* REDUCE */
    case 'b': return execute_build(m);              /* BUILD */
    case 's': return fill(m, KIND_DICT, 2, false);  /* SETITEM */
    case 'u': return fill_marked(m, KIND_DICT);     /* SETITEMS */
    case 'a': return fill(m, KIND_LIST, 1, false);  /* APPEND */
    case 'e': return fill_marked(m, KIND_LIST);     /* APPENDS */
    }
    return rwl_error_set(m->err, RWL_ERR_BAD_FILE,
                         "%s: pickle at byte %zu: opcode 0x%02x, which no tensor needs", m->path,
                         m->at - 1, opcode);
}

static int run(struct machine *m)
{
    for (;;) {
        uint64_t opcode = 0;
        int result = take_number(m, 1, &opcode);
        if (result)
            return result;
        if (opcode == '.') /* STOP */
            return m->depth == 1 ? 0 : fail(m, "ends with other than one value");
        result = execute(m, (uint8_t)opcode);
        if (result)
            return result;
    }
}

/* The dictionary's tensors in its order. A tensor under two names is copied, so that each has
 * its own. */
static int collect(struct machine *m, struct rwl_pickle_tensor **ret_tensors, uint32_t *ret_count)
{
    const struct node *dict = m->stack[0];
    if (dict->kind != KIND_DICT)
        return rwl_error_set(m->err, RWL_ERR_BAD_FILE, "%s: holds no dictionary of tensors",
                             m->path);
    uint32_t count = 0;
    struct rwl_pickle_tensor *tensors =
        rwl_arena_alloc(m->arena, (dict->u.list.count / 2 + 1) * sizeof *tensors);
    if (!tensors)
        return fail_memory(m);
    for (uint32_t i = 0; i < dict->u.list.count; i += 2) {
        const struct node *key = dict->u.list.items[i], *value = dict->u.list.items[i + 1];
        if (value->kind != KIND_TENSOR)
            continue;
        if (key->kind != KIND_TEXT)
            return rwl_error_set(m->err, RWL_ERR_BAD_FILE, "%s: a tensor's name is not text",
                                 m->path);
        tensors[count] = *value->u.tensor;
        tensors[count++].name = key->u.text;
    }
    *ret_tensors = tensors;
    *ret_count = count;
    return 0;
}

int rwl_pickle_read(const void *data, size_t size, const char *path, struct rwl_arena *arena,
                    struct rwl_pickle_tensor **ret_tensors, uint32_t *ret_count,
                    struct rwl_error *err)
{
    struct machine m = { .data = data, .size = size, .path = path, .arena = arena, .err = err };
    m.stack = calloc(MAX_STACK, sizeof *m.stack);
    int result = m.stack ? run(&m) : fail_memory(&m);
    if (!result)
        result = collect(&m, ret_tensors, ret_count);
    free(m.memo);
    free(m.stack);
    return result;
}
