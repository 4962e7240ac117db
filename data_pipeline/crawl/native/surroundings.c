#include "surroundings.h"

#include <string.h>

#define MAX_LEVELS 4
#define MAX_HOPS 8
#define MAX_DESCENT 6
#define MAX_CELLS 100
#define MAX_SPACES 20
#define MAX_CAPTION 300

PyObject *tidy_text_of(Reader *reader, Node *node)
{
    Bytes text = text_of(node);
    PyObject *found = tidy(text);
    free_text(reader->document, text);
    return found;
}

/* Return a text node's text without white space at its ends, "" if there is nothing else. */
static PyObject *stripped_text(Reader *reader, Node *node)
{
    Bytes text = text_of(node), inner = stripped(text);
    PyObject *string = string_of(inner.length ? inner : (Bytes){"", 0});
    free_text(reader->document, text);
    if (string == NULL || PyUnicode_IS_ASCII(string)) {
        return string;
    }
    PyObject *found = PyObject_CallMethod(string, "strip", NULL);
    Py_DECREF(string);
    return found;
}

/* Say whether a node is text of nothing but white space; -1 on an error. */
static int is_blank(Reader *reader, Node *node)
{
    if (!(tag_flags(node) & TEXT_NODE)) {
        return 0;
    }
    Bytes text = text_of(node);
    Bytes inner = stripped(text);
    int plain = inner.length == 0 || (unsigned char)*inner.data < 0x80;
    free_text(reader->document, text);
    if (plain) {
        return inner.length == 0;
    }
    PyObject *string = stripped_text(reader, node);
    int blank = string ? PyUnicode_GET_LENGTH(string) == 0 : -1;
    Py_XDECREF(string);
    return blank;
}

/* Descend to the first or last block inside of `node` that holds text itself; NULL on an error. */
static Node *nearest_block(Reader *reader, Node *node, int after)
{
    for (int level = 0; level < MAX_DESCENT; level++) {
        Node *child = after ? lexbor.first_child(node) : lexbor.last_child(node);
        int blank = 0;
        while (child != NULL && (blank = is_blank(reader, child)) > 0) {
            child = after ? lexbor.next(child) : lexbor.prev(child);
        }
        if (blank < 0) {
            return NULL;
        }
        if (child == NULL || tag_flags(child) & (TEXT_NODE | INLINE | SILENT)) {
            break;
        }
        node = child;
    }
    return node;
}

/* Return the text of an element's end that is nearer to the image; few are read twice. */
static PyObject *block(Reader *reader, Node *node, int after)
{
    size_t place = (((uintptr_t)node >> 4) * 2 + (size_t)after) * 2654435761u >> 7 & (BLOCKS - 1);
    Block *known = &reader->blocks[place];
    if (known->node != node || known->after != after) {
        Node *nearest = nearest_block(reader, node, after);
        if (nearest == NULL) {
            return NULL;
        }
        Bytes text = text_of(nearest);
        PyObject *found = near_text(text, after);
        free_text(reader->document, text);
        if (found == NULL) {
            return NULL;
        }
        Py_XSETREF(known->text, found);
        known->node = node;
        known->after = after;
    }
    return Py_NewRef(known->text);
}

void forget_blocks(Reader *reader)
{
    for (size_t place = 0; place < BLOCKS; place++) {
        Py_CLEAR(reader->blocks[place].text);
    }
}

/* Put the texts of an inline run together; `run` holds them as they were met. */
static PyObject *run_text(PyObject *run, int after)
{
    PyObject *space = NULL, *joined = NULL, *found = NULL;
    if (PyList_GET_SIZE(run) == 1) {
        joined = Py_NewRef(PyList_GET_ITEM(run, 0));
    } else if ((after || PyList_Reverse(run) == 0) && (space = PyUnicode_FromString(" "))) {
        joined = PyUnicode_Join(space, run);
    }
    Bytes text = {NULL, 0};
    if (joined != NULL) {
        text.data = PyUnicode_AsUTF8AndSize(joined, (Py_ssize_t *)&text.length);
        found = text.data ? near_text(text, after) : NULL;
    }
    Py_XDECREF(space);
    Py_XDECREF(joined);
    return found;
}

/* Read the inline run that begins with `node`, or the first block that holds text. */
static int along(Reader *reader, Node *node, int after, Neighbour *found)
{
    PyObject *run = PyList_New(0), *text = NULL;
    Node *element = NULL;
    int failed = run == NULL;
    for (int hop = 0; hop < MAX_HOPS && node != NULL && !failed; hop++) {
        unsigned flags = tag_flags(node);
        int is_text = (flags & TEXT_NODE) != 0;
        Py_CLEAR(text);
        if (is_text || flags & INLINE) {
            text = is_text ? stripped_text(reader, node) : block(reader, node, after);
            failed = text == NULL;
            if (text != NULL && PyUnicode_GET_LENGTH(text)) {
                failed = PyList_Append(run, text) < 0;
                element = is_text ? element : node;
            }
        } else if (!(flags & SILENT)) {
            if (PyList_GET_SIZE(run)) {
                break;
            }
            text = block(reader, node, after);
            failed = text == NULL;
            if (text != NULL && PyUnicode_GET_LENGTH(text)) {
                Py_DECREF(run);
                *found = (Neighbour){text, node};
                return 0;
            }
        } else if ((flags & KIND) == IMAGE && PyList_GET_SIZE(run)) {
            break;
        }
        node = after ? lexbor.next(node) : lexbor.prev(node);
    }
    Py_XDECREF(text);
    if (!failed && PyList_GET_SIZE(run)) {
        found->element = PyList_GET_SIZE(run) == 1 ? element : NULL;
        found->text = run_text(run, after);
        failed = found->text == NULL;
    }
    Py_XDECREF(run);
    return failed ? -1 : 0;
}

/* Find the nearest text after an image and the nearest before it, a few levels up at the most. */
int neighbours(Reader *reader, Node *image, Neighbour *after, Neighbour *before)
{
    Node *top = image, *near;
    for (int level = 0; level < MAX_LEVELS; level++) {
        if (after->text == NULL && (near = lexbor.next(top)) && along(reader, near, 1, after) < 0) {
            return -1;
        }
        if (before->text == NULL && (near = lexbor.prev(top)) && along(reader, near, 0, before) < 0) {
            return -1;
        }
        top = lexbor.parent(top);
        if ((after->text && before->text) || top == NULL || tag_flags(top) & STOP) {
            break;
        }
    }
    return 0;
}

typedef struct {
    long column;
    Node *cell;
} Cell;

static Node *next_row(Node *row)
{
    Node *node = lexbor.next(row);
    for (int hop = 0; hop < MAX_SPACES; hop++) {
        if (node == NULL || (tag_flags(node) & KIND) == ROW) {
            return node;
        }
        int type = lexbor.type(node);
        if (type != TEXT && type != COMMENT) {
            return NULL;
        }
        node = lexbor.next(node);
    }
    return NULL;
}

/* Return how many columns a cell spans, as far as its colspan is a short plain number. */
static long span_of(Node *cell)
{
    Bytes span = attribute_of(cell, (Name)NAME("colspan"));
    if (span.length == 0 || span.length > 12 || (span.length > 3 && is_ascii(span))) {
        return 1;
    }
    PyObject *string = string_of(span), *decimal = NULL, *number = NULL;
    long columns = 1;
    if (string != NULL && PyUnicode_GET_LENGTH(string) < 4
        && (decimal = PyObject_CallMethod(string, "isdecimal", NULL)) == Py_True
        && (number = PyLong_FromUnicodeObject(string, 10))) {
        columns = PyLong_AsLong(number);
    }
    Py_XDECREF(string);
    Py_XDECREF(decimal);
    Py_XDECREF(number);
    return columns;
}

/* Fill in the cells of a row by the column in which they end; 0 where a cell spans rows. */
static int columns_of(Node *row, Cell *cells)
{
    int count = 0;
    long column = 0;
    for (Node *node = lexbor.first_child(row); node != NULL && count < MAX_CELLS;
         node = lexbor.next(node)) {
        if (!(tag_flags(node) & CELL)) {
            continue;
        }
        Bytes span = attribute_of(node, (Name)NAME("rowspan"));
        if (span.length && !(span.length == 1 && *span.data == '1')) {
            return 0;
        }
        long width = span_of(node);
        if (count == 0 || width) {
            count++;
        }
        column += width;
        cells[count - 1] = (Cell){column, node};
    }
    return count;
}

/* Return a cell's text with single spaces, None if it is too long for a caption. */
static PyObject *cell_text(Reader *reader, Node *cell)
{
    Bytes text = text_of(cell);
    PyObject *string = string_of(text.data ? text : (Bytes){"", 0});
    free_text(reader->document, text);
    PyObject *words = string ? PyUnicode_Split(string, NULL, -1) : NULL;
    PyObject *space = PyUnicode_FromString(" ");
    PyObject *found = words && space ? PyUnicode_Join(space, words) : NULL;
    Py_XDECREF(string);
    Py_XDECREF(words);
    Py_XDECREF(space);
    if (found != NULL && PyUnicode_GET_LENGTH(found) >= MAX_CAPTION) {
        Py_SETREF(found, Py_NewRef(Py_None));
    }
    return found;
}

/* Add the captions of a row of images, by the addresses of its cells, to `captions`. */
static int add_captions(Reader *reader, Node *row, PyObject *captions)
{
    Cell above[MAX_CELLS], below[MAX_CELLS];
    PyObject *texts[MAX_CELLS];
    Node *beneath = next_row(row);
    int upper = beneath ? columns_of(row, above) : 0;
    int lower = upper ? columns_of(beneath, below) : 0;
    int pictured = 0, count = 0, failed = 0, fits = lower > 0;
    if (!fits || above[upper - 1].column != below[lower - 1].column) {
        return 0;
    }
    for (int index = 0; index < upper; index++) {
        pictured += contains_image(above[index].cell);
    }
    fits = pictured > 1;
    for (int index = 0; index < lower && fits; index++) {
        fits = !contains_image(below[index].cell);
    }
    for (; count < lower && fits; count++) {
        texts[count] = cell_text(reader, below[count].cell);
        if (texts[count] == NULL || texts[count] == Py_None) {
            failed = texts[count] == NULL;
            Py_XDECREF(texts[count]);
            fits = 0;
            break;
        }
    }
    for (int index = 0, at = 0; index < upper && fits && !failed; index++) {
        while (at < lower && below[at].column < above[index].column) {
            at++;
        }
        int matches = at < lower && below[at].column == above[index].column;
        PyObject *key = PyLong_FromVoidPtr(above[index].cell);
        PyObject *text = matches ? Py_NewRef(texts[at]) : PyUnicode_FromString("");
        if (contains_image(above[index].cell)) {
            failed = !key || !text || PyDict_SetItem(captions, key, text) < 0;
        }
        Py_XDECREF(key);
        Py_XDECREF(text);
    }
    while (count > 0) {
        Py_DECREF(texts[--count]);
    }
    return failed ? -1 : 0;
}

/* Return the text of the cell beneath `cell`, borrowed; NULL if there is no such pair of rows. */
PyObject *caption_beneath(Reader *reader, Node *cell)
{
    Node *row = lexbor.parent(cell);
    if (row == NULL || (tag_flags(row) & KIND) != ROW) {
        return NULL;
    }
    PyObject *key = PyLong_FromVoidPtr(row), *text = NULL;
    PyObject *captions = key ? PyDict_GetItemWithError(reader->rows, key) : NULL;
    if (key != NULL && captions == NULL && !PyErr_Occurred()) {
        captions = PyDict_New();
        if (captions != NULL
            && (PyDict_SetItem(reader->rows, key, captions) < 0
                || add_captions(reader, row, captions) < 0)) {
            Py_CLEAR(captions);
        }
        Py_XDECREF(captions); /* the rows keep it */
    }
    Py_XDECREF(key);
    if (captions != NULL && (key = PyLong_FromVoidPtr(cell))) {
        text = PyDict_GetItemWithError(captions, key);
        Py_DECREF(key);
    }
    return text;
}
