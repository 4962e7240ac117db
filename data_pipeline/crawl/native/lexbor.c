#include "lexbor.h"

#include <dlfcn.h>

struct Lexbor lexbor;

static const struct {
    const char *name;
    size_t place;
} FUNCTIONS[] = {
    {"lxb_dom_node_next_noi", offsetof(struct Lexbor, next)},
    {"lxb_dom_node_prev_noi", offsetof(struct Lexbor, prev)},
    {"lxb_dom_node_parent_noi", offsetof(struct Lexbor, parent)},
    {"lxb_dom_node_first_child_noi", offsetof(struct Lexbor, first_child)},
    {"lxb_dom_node_last_child_noi", offsetof(struct Lexbor, last_child)},
    {"lxb_dom_node_tag_id_noi", offsetof(struct Lexbor, tag_id)},
    {"lxb_dom_node_type_noi", offsetof(struct Lexbor, type)},
    {"lxb_dom_element_qualified_name", offsetof(struct Lexbor, element_name)},
    {"lxb_dom_element_first_attribute_noi", offsetof(struct Lexbor, first_attribute)},
    {"lxb_dom_element_next_attribute_noi", offsetof(struct Lexbor, next_attribute)},
    {"lxb_dom_attr_qualified_name", offsetof(struct Lexbor, attribute_name)},
    {"lxb_dom_attr_value_noi", offsetof(struct Lexbor, attribute_value)},
    {"lxb_dom_node_text_content", offsetof(struct Lexbor, text_content)},
    {"lxb_dom_document_destroy_text_noi", offsetof(struct Lexbor, destroy_text)},
};

static const struct {
    Name name;
    unsigned flags;
} KINDS[] = {
    {NAME("h1"), HEADING},   {NAME("h2"), HEADING},          {NAME("h3"), HEADING},
    {NAME("h4"), HEADING},   {NAME("h5"), HEADING},          {NAME("h6"), HEADING},
    {NAME("img"), IMAGE},    {NAME("amp-img"), IMAGE},       {NAME("meta"), META},
    {NAME("base"), BASE},    {NAME("figcaption"), FIGCAPTION}, {NAME("title"), TITLE},
    {NAME("link"), LINK},    {NAME("script"), SCRIPT},       {NAME("style"), STYLE},
    {NAME("a"), ANCHOR},     {NAME("area"), AREA},           {NAME("picture"), PICTURE},
    {NAME("source"), SOURCE}, {NAME("tr"), ROW},             {NAME("td"), CELL},
    {NAME("th"), CELL},      {NAME("figure"), FIGURE},
};

static const struct {
    const char *name;
    unsigned flag;
} SETS[] = {
    {"inline", INLINE},
    {"silent", SILENT},
    {"stops", STOP},
    {"indifferent", INDIFFERENT},
    {"containers", CONTAINER},
};

/* Tags that lexbor knows have small numbers, the same in every document; others have addresses. */
#define FIXED_TAGS 1024
static uint16_t fixed[FIXED_TAGS];
static PyObject *sets;

/* Find lexbor in the library at `path`; `tag_sets` holds the sets of tag names that SETS lists. */
int lexbor_load(PyObject *path, PyObject *tag_sets)
{
    const char *file = PyUnicode_AsUTF8(path);
    void *library = file ? dlopen(file, RTLD_NOW | RTLD_NOLOAD) : NULL;
    if (library == NULL) {
        PyErr_SetString(PyExc_ImportError, "selectolax's library is not loaded");
        return -1;
    }
    for (size_t index = 0; index < sizeof FUNCTIONS / sizeof *FUNCTIONS; index++) {
        void *function = dlsym(library, FUNCTIONS[index].name);
        if (function == NULL) {
            PyErr_Format(PyExc_ImportError, "selectolax has no %s", FUNCTIONS[index].name);
            return -1;
        }
        memcpy((char *)&lexbor + FUNCTIONS[index].place, &function, sizeof function);
    }
    for (size_t index = 0; index < sizeof SETS / sizeof *SETS; index++) {
        if (PyDict_GetItemString(tag_sets, SETS[index].name) == NULL) {
            PyErr_Format(PyExc_ImportError, "no set %s of tags", SETS[index].name);
            return -1;
        }
    }
    Py_XSETREF(sets, Py_NewRef(tag_sets));
    return 0;
}

static unsigned flags_named(Bytes name)
{
    unsigned flags = ELEMENT_NODE;
    PyObject *string = string_of(name);
    for (size_t index = 0; string && index < sizeof SETS / sizeof *SETS; index++) {
        PyObject *set = PyDict_GetItemString(sets, SETS[index].name);
        if (PySequence_Contains(set, string) > 0) {
            flags |= SETS[index].flag;
        }
    }
    Py_XDECREF(string);
    PyErr_Clear(); /* neither a lookup of a string nor one of these names fails */
    for (size_t index = 0; index < sizeof KINDS / sizeof *KINDS; index++) {
        if (is_named(name, KINDS[index].name)) {
            flags |= KINDS[index].flags;
        }
    }
    return flags;
}

static unsigned flags_of(Node *node)
{
    Bytes name;
    switch (lexbor.type(node)) {
    case ELEMENT:
        name.data = lexbor.element_name(node, &name.length);
        return name.data ? flags_named(name) : ELEMENT_NODE;
    case TEXT:
        return TEXT_NODE;
    case COMMENT:
    case DOCTYPE:
        return SILENT;
    case DOCUMENT:
        return STOP | INDIFFERENT;
    default:
        return 0;
    }
}

/* Return what the tag of any node means; nodes that are no elements have names as in selectolax. */
unsigned tag_flags(Node *node)
{
    uintptr_t id = lexbor.tag_id(node);
    if (id >= FIXED_TAGS || fixed[id] == 0) { /* what is no tag at all, number 0, means nothing */
        unsigned flags = flags_of(node);
        if (id < FIXED_TAGS && id > 0) {
            fixed[id] = (uint16_t)flags;
        }
        return flags;
    }
    return fixed[id];
}

Bytes name_of(Attribute *attribute)
{
    Bytes name;
    name.data = lexbor.attribute_name(attribute, &name.length);
    return name;
}

/* Return an attribute's value; NULL and no length where it has none. */
Bytes value_of(Attribute *attribute)
{
    Bytes value = {NULL, 0};
    size_t length = 0;
    value.data = lexbor.attribute_value(attribute, &length);
    value.length = value.data ? length : 0;
    return value;
}

/* Return the value of an attribute by its whole name; NULL where it has none. */
Bytes attribute_of(Node *element, Name name)
{
    Bytes found = {NULL, 0};
    for (Attribute *attribute = lexbor.first_attribute(element); attribute != NULL;
         attribute = lexbor.next_attribute(attribute)) {
        if (is_named(name_of(attribute), name)) {
            found = value_of(attribute);
        }
    }
    return found;
}

/* Return an element's attributes as selectolax does: a dictionary, None for what has no value. */
PyObject *attributes_of(Node *element)
{
    PyObject *attributes = PyDict_New();
    for (Attribute *attribute = attributes ? lexbor.first_attribute(element) : NULL;
         attribute != NULL; attribute = lexbor.next_attribute(attribute)) {
        Bytes value = value_of(attribute);
        PyObject *key = string_of(name_of(attribute));
        PyObject *item = value.data ? string_of(value) : Py_NewRef(Py_None);
        int failed = key == NULL || item == NULL || PyDict_SetItem(attributes, key, item) < 0;
        Py_XDECREF(key);
        Py_XDECREF(item);
        if (failed) {
            Py_CLEAR(attributes);
        }
    }
    return attributes;
}

PyObject *string_of(Bytes bytes)
{
    return PyUnicode_DecodeUTF8(bytes.data, (Py_ssize_t)bytes.length, "replace");
}

/* Return the text of a node and of all inside of it, to be given back to `free_text`. */
Bytes text_of(Node *node)
{
    Bytes text = {NULL, 0};
    text.data = lexbor.text_content(node, &text.length);
    return text.data ? text : (Bytes){NULL, 0};
}

void free_text(Node *document, Bytes text)
{
    if (text.data != NULL) {
        lexbor.destroy_text(document, (char *)text.data);
    }
}

/* Say whether an img stands somewhere inside of `root`. */
int contains_image(Node *root)
{
    Node *node = root;
    for (;;) {
        Node *next = lexbor.first_child(node);
        while (next == NULL) {
            if (node == root) {
                return 0;
            }
            next = lexbor.next(node);
            if (next == NULL) {
                node = lexbor.parent(node);
            }
        }
        node = next;
        if ((tag_flags(node) & KIND) == IMAGE) {
            Bytes name;
            name.data = lexbor.element_name(node, &name.length);
            if (is_named(name, (Name)NAME("img"))) {
                return 1;
            }
        }
    }
}
