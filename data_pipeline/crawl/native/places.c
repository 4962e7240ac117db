#include "places.h"

#include <string.h>

#define MAX_ANCESTORS 256
#define MAX_NAMES 510
#define MAX_ROLE 32

static PyObject *other;

/* The last answers of `container_inside`: pages repeat the same few elements. */
#define REMEMBERED 32
#define MAX_REMEMBERED 120
static struct {
    PyObject *outer, *inside; /* borrowed, as in Place */
    size_t length;
    char names[MAX_REMEMBERED];
} remembered[REMEMBERED];

int places_prepare(void)
{
    memset(remembered, 0, sizeof remembered);
    Py_XSETREF(other, PyUnicode_InternFromString("other"));
    return other ? 0 : -1;
}

static size_t characters(Bytes text)
{
    size_t count = 0;
    for (size_t index = 0; index < text.length; index++) {
        count += ((unsigned char)text.data[index] & 0xC0) != 0x80;
    }
    return count;
}

/* Ask the twin what the container inside of an element is; borrowed, NULL on an error. */
static PyObject *asked(PyObject *outer, const Bytes *names)
{
    PyObject *parts[4], *inside = NULL;
    int whole = 1;
    for (int index = 0; index < 4; index++) {
        parts[index] = string_of(names[index]);
        whole &= parts[index] != NULL;
    }
    if (whole) {
        inside = PyObject_CallFunctionObjArgs(
            twins.container_inside, outer, parts[0], parts[1], parts[2], parts[3], NULL);
    }
    for (int index = 0; index < 4; index++) {
        Py_XDECREF(parts[index]);
    }
    Py_XDECREF(inside); /* one of the names in the twin's tables, which live on */
    return inside;
}

/* Return the container inside of an element with these tag, class, id and role. */
static PyObject *container_inside(PyObject *outer, const Bytes *names)
{
    char key[MAX_REMEMBERED];
    size_t length = 0;
    uint32_t hash = 2166136261u;
    for (int index = 0; index < 4; index++) {
        if (length + names[index].length + 1 > MAX_REMEMBERED) {
            return asked(outer, names);
        }
        memcpy(key + length, names[index].data, names[index].length);
        length += names[index].length;
        key[length++] = '\0'; /* which no attribute holds */
    }
    for (size_t index = 0; index < length; index++) {
        hash = (hash ^ (unsigned char)key[index]) * 16777619u;
    }
    size_t place = (hash ^ (hash >> 16)) % REMEMBERED;
    if (remembered[place].outer == outer && remembered[place].length == length
        && memcmp(remembered[place].names, key, length) == 0) {
        return remembered[place].inside;
    }
    PyObject *inside = asked(outer, names);
    if (inside != NULL) {
        remembered[place].outer = outer;
        remembered[place].inside = inside;
        remembered[place].length = length;
        memcpy(remembered[place].names, key, length);
    }
    return inside;
}

static int enter_container(Node *element, unsigned flags, Place *place)
{
    static const Name wanted[] = {NAME("class"), NAME("id"), NAME("role")};
    Bytes names[4] = {{"", 0}, {"", 0}, {"", 0}, {"", 0}};
    for (Attribute *attribute = lexbor.first_attribute(element); attribute != NULL;
         attribute = lexbor.next_attribute(attribute)) {
        Bytes name = name_of(attribute);
        for (int index = 0; index < 3; index++) {
            if (is_named(name, wanted[index])) {
                Bytes value = value_of(attribute);
                names[index + 1] = value.data ? value : (Bytes){"", 0};
            }
        }
    }
    if (characters(names[1]) + characters(names[2]) > MAX_NAMES) {
        names[1] = names[2] = (Bytes){"", 0};
    }
    if (characters(names[3]) > MAX_ROLE) {
        names[3] = (Bytes){"", 0};
    }
    if (flags & CONTAINER || names[1].length || names[2].length || names[3].length) {
        names[0].data = lexbor.element_name(element, &names[0].length);
        place->container = container_inside(place->container, names);
    }
    return place->container ? 0 : -1;
}

/* Turn the place outside of an element into the place inside. */
static int go_inside(Node *element, Place *place)
{
    unsigned flags = tag_flags(element);
    if ((flags & KIND) == ANCHOR) {
        place->anchor = element;
        return 0;
    }
    if (flags & INDIFFERENT) {
        return 0;
    }
    if (flags & FIGURE) {
        place->figure = element;
    }
    if (flags & CELL) {
        place->cell = element;
    }
    return flags & ELEMENT_NODE ? enter_container(element, flags, place) : 0;
}

int open_element(Path *path, Node *node)
{
    if (path->depth == path->room) {
        size_t room = path->room ? 2 * path->room : 64;
        Frame *frames = PyMem_Realloc(path->frames, room * sizeof *frames);
        if (frames == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        path->frames = frames;
        path->room = room;
    }
    path->frames[path->depth++] = (Frame){node, 0, {NULL, NULL, NULL, NULL}};
    return 0;
}

/* Find the place inside the innermost open element; NULL on an error. Each is worked out once. */
const Place *place_now(Path *path)
{
    Frame *frames = path->frames;
    size_t top = path->depth - 1, from = top, count = 1;
    Place inner = {other, NULL, NULL, NULL};
    if (frames[top].known) {
        return &frames[top].place;
    }
    while (from > 0 && count < MAX_ANCESTORS && !frames[from - 1].known) {
        from--;
        count++;
    }
    if (from > 0 && count < MAX_ANCESTORS) {
        inner = frames[from - 1].place;
    }
    for (; from <= top; from++) {
        if (go_inside(frames[from].node, &inner) < 0) {
            return NULL;
        }
        frames[from].place = inner;
        frames[from].known = 1;
    }
    return &frames[top].place;
}
