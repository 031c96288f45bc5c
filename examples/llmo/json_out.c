/* JSON output. Text of models is quoted here and handed to cJSON as raw JSON, because cJSON's strings end at a NUL and
 * pass bad UTF-8 on. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

/* A JSON string literal, NULL without memory. */
static char *quote(const char *text, size_t n_bytes) {
    static const char hex[] = "0123456789abcdef";
    const unsigned char *s = (const unsigned char *)text;
    char *out = n_bytes < SIZE_MAX / 8 ? malloc(n_bytes * 6 + 3) : NULL; /* a byte becomes \u00XX at worst */
    if (!out) return NULL;
    char *p = out;
    *p++ = '"';
    for (size_t i = 0; i < n_bytes;) {
        size_t length = tool_utf8_length(s + i, n_bytes - i);
        if (length == 0) {
            memcpy(p, "\xef\xbf\xbd", 3);
            p += 3;
            length = 1;
        } else if (s[i] < 0x20 || s[i] == 0x7f) {
            memcpy(p, "\\u00", 4);
            p[4] = hex[s[i] >> 4];
            p[5] = hex[s[i] & 15];
            p += 6;
        } else {
            if (s[i] == '"' || s[i] == '\\') *p++ = '\\';
            memcpy(p, s + i, length);
            p += length;
        }
        i += length;
    }
    *p++ = '"';
    *p = '\0';
    return out;
}

void json_add_text(cJSON *object, const char *key, const char *text, size_t n_bytes) {
    char *quoted = quote(text, n_bytes);
    (void)cJSON_AddRawToObject(object, key, quoted ? quoted : "null");
    free(quoted);
}

void json_add_string(cJSON *object, const char *key, const char *text) {
    json_add_text(object, key, text, strlen(text));
}

void json_append_text(cJSON *array, const char *text) {
    char *quoted = quote(text, strlen(text));
    (void)cJSON_AddItemToArray(array, cJSON_CreateRaw(quoted ? quoted : "null"));
    free(quoted);
}

void json_add_u64(cJSON *object, const char *key, uint64_t value) {
    char text[24];
    (void)snprintf(text, sizeof text, "%" PRIu64, value);
    (void)cJSON_AddRawToObject(object, key, text);
}

void json_add_tokens(cJSON *object, const char *key, const llmo_token *tokens, size_t n_tokens) {
    cJSON *array = cJSON_AddArrayToObject(object, key);
    for (size_t i = 0; i < n_tokens; i++) (void)cJSON_AddItemToArray(array, cJSON_CreateNumber(tokens[i]));
}

int json_finish(cJSON *object) {
    char *text = cJSON_PrintUnformatted(object);
    cJSON_Delete(object);
    if (!text) return tool_fail_memory();
    (void)puts(text);
    cJSON_free(text);
    return tool_finish(TOOL_OK);
}
