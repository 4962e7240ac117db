/* The parts of lexbor's interface that the walk calls, found at run time in selectolax's library.
 *
 * Only functions are called, never the layout of a structure, so that a new version of lexbor
 * either works as before or lacks a name, which ends the import.
 */
#ifndef TRAWL_LEXBOR_H
#define TRAWL_LEXBOR_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct lexbor_node Node;
typedef struct lexbor_attribute Attribute;

/* Types of nodes, as the DOM standard numbers them. */
enum { ELEMENT = 1, TEXT = 3, COMMENT = 8, DOCUMENT = 9, DOCTYPE = 10 };

struct Lexbor {
    Node *(*next)(Node *);
    Node *(*prev)(Node *);
    Node *(*parent)(Node *);
    Node *(*first_child)(Node *);
    Node *(*last_child)(Node *);
    uintptr_t (*tag_id)(Node *);
    int (*type)(Node *);
    const char *(*element_name)(Node *, size_t *);
    Attribute *(*first_attribute)(Node *);
    Attribute *(*next_attribute)(Attribute *);
    const char *(*attribute_name)(Attribute *, size_t *);
    const char *(*attribute_value)(Attribute *, size_t *);
    char *(*text_content)(Node *, size_t *);
    void *(*destroy_text)(Node *, char *);
};

extern struct Lexbor lexbor;

/* A piece of UTF-8 that belongs to the tree; `data` is NULL where there is none. */
typedef struct {
    const char *data;
    size_t length;
} Bytes;

/* What a tag means to the walk: bits, and one kind above them. */
enum {
    INLINE = 1,
    SILENT = 2,
    STOP = 4,
    INDIFFERENT = 8,
    CELL = 16,
    FIGURE = 32,
    CONTAINER = 64,
    KIND = 0x0F00,
    TEXT_NODE = 0x4000,
    ELEMENT_NODE = 0x8000
};
enum {
    HEADING = 0x100,
    IMAGE = 0x200,
    FIGCAPTION = 0x300,
    META = 0x400,
    BASE = 0x500,
    TITLE = 0x600,
    LINK = 0x700,
    SCRIPT = 0x800,
    STYLE = 0x900,
    ANCHOR = 0xA00,
    AREA = 0xB00,
    PICTURE = 0xC00,
    SOURCE = 0xD00,
    ROW = 0xE00
};

int lexbor_load(PyObject *path, PyObject *tag_sets);
unsigned tag_flags(Node *node);
/* A name to compare with, and its length. */
typedef struct {
    const char *text;
    size_t length;
} Name;
#define NAME(text) {text, sizeof text - 1}

static inline int is_named(Bytes bytes, Name name)
{
    return bytes.length == name.length && memcmp(bytes.data, name.text, name.length) == 0;
}

Bytes name_of(Attribute *attribute);
Bytes value_of(Attribute *attribute);
Bytes attribute_of(Node *element, Name name);
PyObject *attributes_of(Node *element);
PyObject *string_of(Bytes bytes);
Bytes text_of(Node *node);
void free_text(Node *document, Bytes text);
int contains_image(Node *root);

#endif
