/* The tables of an opened GGUF file: keys and tensors by name, tensors by place, and the getters that read them. Must
 * not touch unchecked bytes: all it sees went through the parser. */
#include "gguf_impl.h"

#define TAG LLMO_PURPOSE_HEADER

llmo_status llmoi_gguf_blame(const llmoi_gguf_part *part, const char *what, const char *name, llmo_status st) {
    uint64_t at = (uint64_t)((const unsigned char *)name - part->header) - 8;
    int shown = (int)LLMOI_GGUF_SHOWN_BYTES;
    if (strlen(name) > LLMOI_GGUF_SHOWN_BYTES) {
        while (shown > 0 && ((unsigned char)name[shown] & 0xc0) == 0x80) shown--;
    }
    llmoi_fail_prefix("%s '%.*s' at offset %llu", what, shown, name, (unsigned long long)at);
    return st;
}

/* --- hash tables -------------------------------------------------------------------------------------------- */

static inline uint64_t rotl(uint64_t x, int n) {
    return x << n | x >> (64 - n);
}

static inline void sip_round(uint64_t v[4]) {
    v[0] += v[1], v[2] += v[3];
    v[1] = rotl(v[1], 13) ^ v[0], v[3] = rotl(v[3], 16) ^ v[2];
    v[0] = rotl(v[0], 32);
    v[2] += v[1], v[0] += v[3];
    v[1] = rotl(v[1], 17) ^ v[2], v[3] = rotl(v[3], 21) ^ v[0];
    v[2] = rotl(v[2], 32);
}

/* SipHash-1-3 (Aumasson, Bernstein): keyed, so that no file can be made whose names all collide. */
static uint64_t hash_name(const uint64_t key[2], const char *s, size_t n) {
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du, key[0] ^ 0x6c7967656e657261u,
                     key[1] ^ 0x7465646279746573u};
    uint64_t last = (uint64_t)n << 56;
    for (; n >= 8; s += 8, n -= 8) {
        uint64_t m;
        memcpy(&m, s, 8);
        v[3] ^= m;
        sip_round(v);
        v[0] ^= m;
    }
    for (size_t i = 0; i < n; i++) last |= (uint64_t)(unsigned char)s[i] << (8 * i);
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++) sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* Half as many slots again as entries: 6 bytes per entry, chains stay short. */
static uint32_t slot_count(uint32_t n) {
    return n + n / 2 + 1;
}

static uint32_t first_slot(uint64_t hash, uint32_t n_slots) {
    return (uint32_t)((hash >> 32) * n_slots >> 32);
}

static const char *key_name(const llmoi_gguf_part *part, uint32_t i) {
    return (const char *)part->header + part->keys[i].key_at;
}

static uint32_t find_key(const llmoi_gguf *g, const llmoi_gguf_part *part, const char *name, uint32_t *slot) {
    uint32_t n = slot_count(part->n_keys);
    uint32_t s = first_slot(hash_name(g->hash_key, name, strlen(name)), n);
    for (; part->key_slots[s]; s = s + 1 == n ? 0 : s + 1) {
        if (strcmp(key_name(part, part->key_slots[s] - 1), name) == 0) return part->key_slots[s];
    }
    if (slot) *slot = s;
    return 0;
}

static uint32_t find_tensor(const llmoi_gguf *g, const char *name, uint32_t *slot) {
    uint32_t n = slot_count(g->n_tensors);
    uint32_t s = first_slot(hash_name(g->hash_key, name, strlen(name)), n);
    for (; g->tensor_slots[s]; s = s + 1 == n ? 0 : s + 1) {
        if (strcmp(g->tensors[g->tensor_slots[s] - 1].name, name) == 0) return g->tensor_slots[s];
    }
    if (slot) *slot = s;
    return 0;
}

llmo_status llmoi_gguf_index_keys(llmoi_gguf *g, llmoi_gguf_part *part) {
    part->key_slots = llmoi_zalloc_array(g->mem, TAG, slot_count(part->n_keys), sizeof *part->key_slots);
    if (!part->key_slots) return LLMO_E_NOMEM;
    for (uint32_t i = 0; i < part->n_keys; i++) {
        uint32_t slot = 0;
        const char *name = key_name(part, i);
        uint32_t other = find_key(g, part, name, &slot);
        if (other) {
            return llmoi_gguf_blame(
                part, "key", name,
                llmoi_fail(LLMO_E_FORMAT, "the same key is at offset %u already", part->keys[other - 1].key_at - 8));
        }
        part->key_slots[slot] = i + 1;
    }
    return LLMO_OK;
}

llmo_status llmoi_gguf_index_tensors(llmoi_gguf *g) {
    g->tensor_slots = llmoi_zalloc_array(g->mem, TAG, slot_count(g->n_tensors), sizeof *g->tensor_slots);
    if (!g->tensor_slots) return LLMO_E_NOMEM;
    for (uint32_t i = 0; i < g->n_tensors; i++) {
        uint32_t slot = 0;
        const llmoi_gguf_tensor *t = &g->tensors[i];
        uint32_t other = find_tensor(g, t->name, &slot);
        if (other) {
            uint32_t where = g->tensors[other - 1].part;
            return llmoi_gguf_blame(
                &g->parts[t->part], "tensor", t->name,
                llmoi_fail(LLMO_E_FORMAT, "a tensor of the same name came before (part %u)", where + 1));
        }
        g->tensor_slots[slot] = i + 1;
    }
    return LLMO_OK;
}

/* --- overlap ------------------------------------------------------------------------------------------------ */

static bool lies_before(const llmoi_gguf_tensor *a, const llmoi_gguf_tensor *b) {
    if (a->part != b->part) return a->part < b->part;
    return a->offset != b->offset ? a->offset < b->offset : a->n_bytes < b->n_bytes;
}

static void sift_down(const llmoi_gguf_tensor *t, uint32_t *order, uint32_t i, uint32_t n) {
    for (uint32_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && lies_before(&t[order[child]], &t[order[child + 1]])) child++;
        if (!lies_before(&t[order[i]], &t[order[child]])) return;
        uint32_t x = order[i];
        order[i] = order[child];
        order[child] = x;
    }
}

/* Heapsort: no worst case to be provoked, no memory. */
static void sort_by_place(const llmoi_gguf_tensor *t, uint32_t *order, uint32_t n) {
    for (uint32_t i = n / 2; i-- > 0;) sift_down(t, order, i, n);
    for (uint32_t end = n; end-- > 1;) {
        uint32_t x = order[0];
        order[0] = order[end];
        order[end] = x;
        sift_down(t, order, 0, end);
    }
}

/* Data of two tensors may be the same (tied weights), but not overlap in part. */
static llmo_status check_pair(const llmoi_gguf *g, const llmoi_gguf_tensor *a, const llmoi_gguf_tensor *b) {
    if (a->part != b->part || b->offset >= a->offset + a->n_bytes) return LLMO_OK;
    if (a->offset == b->offset && a->n_bytes == b->n_bytes && a->type == b->type) return LLMO_OK;
    return llmoi_gguf_blame(
        &g->parts[b->part], "tensor", b->name,
        llmoi_fail(LLMO_E_FORMAT, "its data overlaps that of tensor '%.*s'", (int)LLMOI_GGUF_SHOWN_BYTES, a->name));
}

llmo_status llmoi_gguf_check_overlaps(const llmoi_gguf *g) {
    const llmoi_gguf_tensor *t = g->tensors;
    uint32_t *order = llmoi_alloc_array(g->mem, TAG, g->n_tensors, sizeof *order);
    if (!order) return LLMO_E_NOMEM;
    for (uint32_t i = 0; i < g->n_tensors; i++) order[i] = i;
    sort_by_place(t, order, g->n_tensors);
    llmo_status st = LLMO_OK;
    for (uint32_t i = 1; i < g->n_tensors && st == LLMO_OK; i++) st = check_pair(g, &t[order[i - 1]], &t[order[i]]);
    llmoi_free(g->mem, order);
    return st;
}

/* --- tables ------------------------------------------------------------------------------------------------- */

uint32_t llmoi_gguf_n_parts(const llmoi_gguf *g) {
    return g->n_parts;
}

const llmoi_source *llmoi_gguf_source(const llmoi_gguf *g, uint32_t part) {
    return part < g->n_parts ? &g->parts[part].source : NULL;
}

uint32_t llmoi_gguf_n_keys(const llmoi_gguf *g) {
    return g->parts[0].n_keys;
}

const char *llmoi_gguf_key(const llmoi_gguf *g, uint32_t index) {
    return index < g->parts[0].n_keys ? key_name(&g->parts[0], index) : NULL;
}

bool llmoi_gguf_has(const llmoi_gguf *g, const char *key) {
    return find_key(g, &g->parts[0], key, NULL) != 0;
}

bool llmoi_gguf_lookup(const llmoi_gguf *g, uint32_t part_no, const char *key, llmoi_gguf_value *out) {
    const llmoi_gguf_part *part = &g->parts[part_no];
    uint32_t found = find_key(g, part, key, NULL);
    if (!found) return false;
    const llmoi_gguf_entry *e = &part->keys[found - 1];
    const unsigned char *kind = part->header + e->key_at + llmoi_load_u64(part->header + e->key_at - 8);
    *out = (llmoi_gguf_value){.kind = kind[1], .elem = kind[1], .count = 1, .data = kind + 4, .header = part->header};
    out->offset = e->key_at - 8;
    if (out->kind == LLMOI_GGUF_ARRAY) {
        out->elem = llmoi_load_u32(kind + 4);
        out->count = llmoi_load_u64(kind + 8);
        out->data = kind + 16;
        out->strings = part->strings + e->strings;
    }
    return true;
}

uint32_t llmoi_gguf_n_tensors(const llmoi_gguf *g) {
    return g->n_tensors;
}

const llmoi_gguf_tensor *llmoi_gguf_tensor_at(const llmoi_gguf *g, uint32_t index) {
    return index < g->n_tensors ? &g->tensors[index] : NULL;
}

const llmoi_gguf_tensor *llmoi_gguf_find(const llmoi_gguf *g, const char *name) {
    uint32_t found = find_tensor(g, name, NULL);
    return found ? &g->tensors[found - 1] : NULL;
}
