#include "pictures.h"

#include <string.h>
#include <structmember.h> /* complete in Python.h only from 3.12 on */

#define MAX_TEXTS 24
#define MAX_ALTERNATIVES 4

static const char *const SOURCES[] = {
    "alt", "title", "aria", "figcaption", "surrounding", "anchor", "heading", "filename",
};
static PyObject *sources[sizeof SOURCES / sizeof *SOURCES];

/* Texts and candidates are Python's own, made without a call: their slots are filled in. */
enum { SOURCE_SLOT, TEXT_SLOT, TEXT_SLOTS };
static const char *const TEXT_NAMES[] = {"source", "text"};
enum {
    PAGE, IMAGE_SLOT, TEXTS, LANGUAGE, WIDTH, HEIGHT, POSITION, IN_LINK, CONTAINER_SLOT, DOMINANCE,
    ROBOTS, LICENCE, ALTERNATIVES, CANDIDATE_SLOTS
};
static const char *const CANDIDATE_NAMES[] = {
    "page", "image", "texts", "language", "width", "height", "position", "in_link", "container",
    "dominance", "robots", "licence", "alternatives",
};
static PyTypeObject *text_type, *candidate_type;
static Py_ssize_t text_slots[TEXT_SLOTS], candidate_slots[CANDIDATE_SLOTS];

static PyObject **slot(PyObject *object, Py_ssize_t offset)
{
    return (PyObject **)((char *)object + offset);
}

static int find_slots(PyObject *type, const char *const *names, int count, Py_ssize_t *offsets)
{
    for (int index = 0; index < count; index++) {
        PyObject *descriptor = PyObject_GetAttrString(type, names[index]);
        if (descriptor == NULL || Py_TYPE(descriptor) != &PyMemberDescr_Type) {
            Py_XDECREF(descriptor);
            PyErr_Format(PyExc_ImportError, "%R has no slot %s", type, names[index]);
            return -1;
        }
        offsets[index] = ((PyMemberDescrObject *)descriptor)->d_member->offset;
        Py_DECREF(descriptor);
    }
    return 0;
}

static void picture_dealloc(PyObject *object)
{
    Picture *picture = (Picture *)object;
    Py_XDECREF(picture->addresses);
    Py_XDECREF(picture->container);
    Py_XDECREF(picture->width);
    Py_XDECREF(picture->height);
    Py_XDECREF(picture->texts);
    PyObject_Free(object);
}

static PyMemberDef PICTURE_MEMBERS[] = {
    {"addresses", T_OBJECT, offsetof(Picture, addresses), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject picture_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "data_pipeline.crawl._walk.Picture",
    .tp_basicsize = sizeof(Picture),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = picture_dealloc,
    .tp_members = PICTURE_MEMBERS,
};

int pictures_prepare(PyObject *texts, PyObject *candidates)
{
    for (size_t index = 0; index < sizeof SOURCES / sizeof *SOURCES; index++) {
        Py_XSETREF(sources[index], PyUnicode_InternFromString(SOURCES[index]));
    }
    if (PyErr_Occurred() || PyType_Ready(&picture_type) < 0
        || find_slots(texts, TEXT_NAMES, TEXT_SLOTS, text_slots) < 0
        || find_slots(candidates, CANDIDATE_NAMES, CANDIDATE_SLOTS, candidate_slots) < 0) {
        return -1;
    }
    Py_XSETREF(text_type, (PyTypeObject *)Py_NewRef(texts));
    Py_XSETREF(candidate_type, (PyTypeObject *)Py_NewRef(candidates));
    return 0;
}

/* Return a picture at `addresses` that nothing is known of yet, met once. */
Picture *picture_new(PyObject *addresses)
{
    Picture *picture = PyObject_New(Picture, &picture_type);
    if (picture != NULL) {
        memset((char *)picture + sizeof(PyObject), 0, sizeof *picture - sizeof(PyObject));
        picture->addresses = Py_NewRef(addresses);
        picture->times = 1;
        picture->texts = PyList_New(0);
        if (picture->texts == NULL) {
            Py_CLEAR(picture);
        }
    }
    return picture;
}

static int same_strings(PyObject *one, PyObject *two)
{
    Py_ssize_t length = PyUnicode_GET_LENGTH(one);
    return one == two
           || (length == PyUnicode_GET_LENGTH(two) && PyUnicode_KIND(one) == PyUnicode_KIND(two)
               && memcmp(PyUnicode_DATA(one), PyUnicode_DATA(two),
                         (size_t)length * PyUnicode_KIND(one)) == 0);
}

Py_ssize_t texts_held(const Picture *picture)
{
    Py_ssize_t count = PyList_GET_SIZE(picture->texts);
    for (unsigned left = picture->empty; left; left &= left - 1) {
        count++;
    }
    return count;
}

/* Add a text, which is taken over, unless it is there from the same source. NULL is an error. */
int add_text(Picture *picture, int source, PyObject *text)
{
    if (text == NULL) {
        return -1;
    }
    if (PyUnicode_GET_LENGTH(text) == 0) {
        picture->empty |= 1u << source;
        Py_DECREF(text);
        return 0;
    }
    for (Py_ssize_t index = 0; index < PyList_GET_SIZE(picture->texts); index++) {
        PyObject *known = PyList_GET_ITEM(picture->texts, index);
        if (*slot(known, text_slots[SOURCE_SLOT]) == sources[source]
            && same_strings(*slot(known, text_slots[TEXT_SLOT]), text)) {
            Py_DECREF(text);
            return 0;
        }
    }
    PyObject *added = text_type->tp_alloc(text_type, 0);
    if (added == NULL) {
        Py_DECREF(text);
        return -1;
    }
    *slot(added, text_slots[SOURCE_SLOT]) = Py_NewRef(sources[source]);
    *slot(added, text_slots[TEXT_SLOT]) = text;
    PyObject_GC_UnTrack(added); /* strings alone are part of no cycle */
    int failed = PyList_Append(picture->texts, added);
    Py_DECREF(added);
    return failed;
}

/* Return the first texts; the list itself where it holds no more, since nothing is added now. */
static PyObject *texts_of(const Picture *picture)
{
    return PyList_GET_SIZE(picture->texts) <= MAX_TEXTS
               ? Py_NewRef(picture->texts) : PyList_GetSlice(picture->texts, 0, MAX_TEXTS);
}

static PyObject *flag(int value)
{
    return value ? Py_True : Py_False;
}

static PyObject *dominance_of(const Picture *picture, Py_ssize_t position, PyObject *images)
{
    PyObject *arguments[] = {
        picture->container, flag(picture->in_figure), flag(picture->in_link), picture->width,
        picture->height, flag(picture->furniture), flag(picture->times > 1), flag(position == 0),
        images,
    };
    return PyObject_Vectorcall(
        twins.dominance, arguments, sizeof arguments / sizeof *arguments, NULL);
}

static PyObject *candidate_of(const Picture *picture, PyObject *page, Py_ssize_t position,
                              PyObject *images)
{
    PyObject *values[CANDIDATE_SLOTS] = {
        [PAGE] = Py_NewRef(page),
        [IMAGE_SLOT] = Py_NewRef(PyList_GET_ITEM(picture->addresses, 0)),
        [TEXTS] = texts_of(picture),
        [LANGUAGE] = PyUnicode_FromString(""),
        [WIDTH] = Py_NewRef(picture->width),
        [HEIGHT] = Py_NewRef(picture->height),
        [POSITION] = PyLong_FromSsize_t(position),
        [IN_LINK] = Py_NewRef(flag(picture->in_link)),
        [CONTAINER_SLOT] = Py_NewRef(picture->container),
        [DOMINANCE] = dominance_of(picture, position, images),
        [ROBOTS] = PyList_New(0),
        [LICENCE] = Py_NewRef(Py_None),
        [ALTERNATIVES] = PyList_GetSlice(picture->addresses, 1, MAX_ALTERNATIVES + 1),
    };
    PyObject *candidate = candidate_type->tp_alloc(candidate_type, 0);
    int failed = candidate == NULL;
    for (int index = 0; index < CANDIDATE_SLOTS; index++) {
        failed |= values[index] == NULL;
    }
    for (int index = 0; index < CANDIDATE_SLOTS; index++) {
        if (failed) {
            Py_XDECREF(values[index]);
        } else {
            *slot(candidate, candidate_slots[index]) = values[index];
        }
    }
    if (failed) {
        Py_CLEAR(candidate);
    }
    return candidate;
}

/* candidates(pictures, page) -> the candidates of pictures that a walk has gathered. */
PyObject *candidates_of(PyObject *module, PyObject *arguments)
{
    PyObject *pictures, *page, *item;
    Py_ssize_t at = 0, position = 0;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "O!U", &PyDict_Type, &pictures, &page)) {
        return NULL;
    }
    PyObject *images = PyLong_FromSsize_t(PyDict_GET_SIZE(pictures));
    PyObject *found = images ? PyList_New(0) : NULL;
    while (found != NULL && PyDict_Next(pictures, &at, NULL, &item)) {
        PyObject *candidate = NULL;
        if (Py_TYPE(item) == &picture_type) {
            candidate = candidate_of((Picture *)item, page, position++, images);
        } else {
            PyErr_SetString(PyExc_TypeError, "a picture of another walk");
        }
        if (candidate == NULL || PyList_Append(found, candidate) < 0) {
            Py_CLEAR(found);
        }
        Py_XDECREF(candidate);
    }
    Py_XDECREF(images);
    return found;
}
