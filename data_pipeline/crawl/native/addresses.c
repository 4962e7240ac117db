#include "addresses.h"

#include <string.h>

#define MAX_LENGTH 4096
#define MAX_PLAIN 4096

static int is_letter(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
}

static int is_digit(char byte)
{
    return byte >= '0' && byte <= '9';
}

static int is_name(char byte)
{
    return is_letter(byte) || is_digit(byte) || byte == '_' || byte == '-';
}

static int is_segment(char byte)
{
    return is_name(byte) || (byte && strchr("~!$&'()*+,;=@:", byte) != NULL);
}

/* Return where a path of segments ends that begin with "/": nothing to escape, no dot segment.
 * `doubled` lets slashes follow each other.
 */
static const char *path_end(const char *at, const char *end, int doubled)
{
    while (at < end && *at == '/') {
        at++;
        if (at == end || *at == '/') {
            if (doubled) {
                continue;
            }
            return at;
        }
        for (;;) {
            const char *start = at;
            while (at < end && is_segment(*at)) {
                at++;
            }
            if (at == start) {
                return NULL;
            }
            if (at == end || *at != '.') {
                break;
            }
            at++;
        }
    }
    return at;
}

/* Say whether this is a whole canonical address by name, without query. */
static int is_absolute(const char *at, const char *end)
{
    at += 4;
    at += at < end && *at == 's';
    if (end - at < 4 || memcmp(at, "://", 3) != 0) {
        return 0;
    }
    at += 3;
    for (int labels = 1;; labels++) {
        if (at == end || *at < 'a' || *at > 'z') {
            return 0;
        }
        while (at < end && ((*at >= 'a' && *at <= 'z') || is_digit(*at) || *at == '-')) {
            at++;
        }
        if (at == end || *at != '.') {
            return labels > 1 && at < end && *at == '/' && path_end(at, end, 1) == end;
        }
        at++;
    }
}

/* Say whether this is a path below a folder: names with single dots and slashes between. */
static int is_from_folder(const char *at, const char *end)
{
    for (;;) {
        const char *start = at;
        while (at < end && is_name(*at)) {
            at++;
        }
        if (at == start) {
            return 0;
        }
        if (at == end) {
            return 1;
        }
        if (*at != '/' && *at != '.') {
            return 0;
        }
        at++;
    }
}

static PyObject *joined(PyObject *before, const char *data, size_t length)
{
    size_t known = before ? (size_t)PyUnicode_GET_LENGTH(before) : 0;
    PyObject *string = PyUnicode_New((Py_ssize_t)(known + length), 127);
    if (string != NULL) {
        char *place = (char *)PyUnicode_1BYTE_DATA(string);
        if (known) {
            memcpy(place, PyUnicode_1BYTE_DATA(before), known);
        }
        memcpy(place + known, data, length);
    }
    return string;
}

/* Return the canonical address of a reference that is plain and certainly an address.
 *
 * NULL without an error for all others: the twin is `Base.__missing__`.
 */
PyObject *resolved_plainly(const BaseUrl *base, Bytes reference)
{
    const char *at = reference.data, *end = at + reference.length;
    if (reference.length == 0 || reference.length > MAX_LENGTH || base->root == NULL) {
        return NULL;
    }
    const char *fragment = memchr(at, '#', reference.length);
    end = fragment ? fragment : end;
    size_t length = (size_t)(end - at);
    if (length == 0) {
        return NULL;
    }
    if (*at == '/') {
        return path_end(at, end, 0) == end ? joined(base->root, at, length) : NULL;
    }
    if (length > 4 && memcmp(at, "http", 4) == 0 && is_absolute(at, end)) {
        return joined(NULL, at, length);
    }
    if (is_from_folder(at, end)) {
        return joined(base->folder, at, length);
    }
    if (length > 3 && memcmp(at, "../", 3) == 0 && is_from_folder(at + 3, end)) {
        return joined(base->above, at + 3, length - 3);
    }
    return NULL;
}

/* Return the canonical address of any reference, None if it has none. */
PyObject *resolved(const BaseUrl *base, Bytes reference)
{
    PyObject *url = resolved_plainly(base, reference);
    if (url != NULL || PyErr_Occurred()) {
        return url;
    }
    PyObject *string = string_of(reference);
    url = string ? PyObject_GetItem(base->url, string) : NULL;
    Py_XDECREF(string);
    return url;
}

/* Read a size such as "640w" or "1.5x" of plain digits; 0 if it is none. */
static double size_of(Bytes word, char *unit)
{
    double value = 0, place = 0;
    if (word.length < 2 || word.length > 15) {
        return 0;
    }
    *unit = word.data[word.length - 1];
    if ((*unit != 'w' && *unit != 'x') || !is_digit(word.data[0])) {
        return 0;
    }
    for (size_t index = 0; index + 1 < word.length; index++) {
        char byte = word.data[index];
        if (byte == '.' && place == 0 && index + 2 < word.length) {
            place = 1;
        } else if (!is_digit(byte)) {
            return 0;
        } else {
            value = 10 * value + (byte - '0');
            place *= 10;
        }
    }
    value = place > 1 ? value / place : value; /* at most 14 digits: rounded once, as Python does */
    return value < 1e6 ? value : 0;
}

static Bytes next_word(const char **at, const char *end)
{
    while (*at < end && is_space((unsigned char)**at)) {
        (*at)++;
    }
    Bytes word = {*at, 0};
    while (*at < end && !is_space((unsigned char)**at)) {
        (*at)++;
        word.length++;
    }
    return word;
}

/* Read a srcset in which each entry is an address and one size; 0 entries for all others. */
int plain_entries(Bytes srcset, Entry *entries)
{
    if (srcset.length > MAX_PLAIN || !is_ascii(srcset)) {
        return 0;
    }
    const char *at = srcset.data, *whole = at + srcset.length;
    for (int count = 0;; at++) {
        const char *end = memchr(at, ',', (size_t)(whole - at));
        end = end ? end : whole;
        if (count == MAX_ENTRIES) {
            return 0;
        }
        Entry *entry = &entries[count++];
        entry->address = next_word(&at, end);
        entry->size = size_of(next_word(&at, end), &entry->unit);
        if (entry->size <= 0 || next_word(&at, end).length) {
            return 0;
        }
        if (end == whole) {
            return count;
        }
        at = end;
    }
}
