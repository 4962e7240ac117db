/* One pass over a page's tree in C: the fast twin of `data_pipeline.crawl.walk`.
 *
 * Goes through lexbor's own nodes, without an object of Python for each, and gathers images, their
 * texts and links. What is rare, or not plain ASCII, is asked of the same functions that the twin
 * calls. All of it happens under the interpreter's lock.
 */
#include "walk.h"

#include <string.h>

#define MAX_LINKS 5000

static PyObject *attribute_checked(PyObject *object, const char *name, PyTypeObject *type)
{
    PyObject *found = PyObject_GetAttrString(object, name);
    if (found != NULL && !PyObject_TypeCheck(found, type)) {
        PyErr_Format(PyExc_TypeError, "%s is no %s", name, type->tp_name);
        Py_CLEAR(found);
    }
    return found;
}

/* Ask the gatherer for its base, which a base element changes. */
static int read_base(Walk *walk)
{
    static const char *const names[] = {"root", "folder", "above"};
    PyObject **places[] = {&walk->base.root, &walk->base.folder, &walk->base.above};
    int plain = 1;
    Py_XSETREF(walk->base.url, PyObject_GetAttrString(walk->gatherer, "base"));
    for (int index = 0; index < 3; index++) {
        PyObject *part = walk->base.url ? attribute_checked(walk->base.url, names[index],
                                                            &PyUnicode_Type) : NULL;
        if (part == NULL) {
            return -1;
        }
        plain &= PyUnicode_IS_ASCII(part);
        Py_XSETREF(*places[index], part);
    }
    if (!plain) { /* the page's own address is none: the twin says what comes of that */
        Py_CLEAR(walk->base.root);
    }
    return 0;
}

static int done(PyObject *result)
{
    Py_XDECREF(result);
    return result ? 0 : -1;
}

/* Tell the head of an element's attributes and, for an itemprop, of its parent's. */
static int tell_attributes(Walk *walk, Node *node, const char *method)
{
    Node *above = walk->path.frames[walk->path.depth - 1].node;
    PyObject *attributes = attributes_of(node), *parent = NULL;
    int with_parent = attribute_of(node, (Name)NAME("itemprop")).length && tag_flags(above) & ELEMENT_NODE;
    parent = with_parent ? attributes_of(above) : PyDict_New();
    int failed = !attributes || !parent
                 || done(PyObject_CallMethod(walk->head, method, "OO", attributes, parent)) < 0;
    Py_XDECREF(attributes);
    Py_XDECREF(parent);
    return failed ? -1 : 0;
}

/* Tell the head of the whole text of an element. */
static int tell_text(Walk *walk, Node *node, const char *method)
{
    Bytes text = text_of(node);
    PyObject *string = string_of(text.data ? text : (Bytes){"", 0});
    free_text(walk->reader.document, text);
    int failed = !string || done(PyObject_CallMethod(walk->head, method, "O", string)) < 0;
    Py_XDECREF(string);
    return failed ? -1 : 0;
}

static int take_base(Walk *walk, Node *node)
{
    Bytes href = attribute_of(node, (Name)NAME("href"));
    PyObject *string = string_of(href.data ? href : (Bytes){"", 0});
    int failed = !string || done(PyObject_CallMethod(walk->head, "take_base", "O", string)) < 0;
    Py_XDECREF(string);
    return failed ? -1 : read_base(walk);
}

static int holds(Bytes text, const char *word)
{
    size_t length = strlen(word);
    for (size_t start = 0; start + length <= text.length; start++) {
        if (memcmp(text.data + start, word, length) == 0) {
            return 1;
        }
    }
    return 0;
}

static int take_link(Walk *walk, Node *node, unsigned kind)
{
    Bytes href = {NULL, 0}, rel = {NULL, 0}, style = {NULL, 0};
    int has_rel = 0, has_style = 0;
    for (Attribute *attribute = lexbor.first_attribute(node); attribute != NULL;
         attribute = lexbor.next_attribute(attribute)) {
        Bytes name = name_of(attribute);
        if (is_named(name, (Name)NAME("href"))) {
            href = value_of(attribute);
        } else if (is_named(name, (Name)NAME("rel"))) {
            rel = value_of(attribute);
            has_rel = 1;
        } else if (is_named(name, (Name)NAME("style"))) {
            style = value_of(attribute);
            has_style = 1;
        }
    }
    int styled = style.length && has_word(style, "url(");
    if (walk->links == NULL && !(kind == ANCHOR && has_rel) && !styled) {
        return 0;
    }
    walk->has_styled |= has_style;
    if (href.length == 0) {
        return 0;
    }
    if (rel.length) {
        if (has_word(rel, "license")) {
            PyObject *relation = string_of(rel), *address = string_of(href);
            int failed = !relation || !address
                         || done(PyObject_CallMethod(
                                walk->head, "take_licence", "OO", relation, address)) < 0;
            Py_XDECREF(relation);
            Py_XDECREF(address);
            if (failed) {
                return -1;
            }
        }
        if (holds(rel, "nofollow")) {
            return 0;
        }
    }
    if (walk->links == NULL || *href.data == '#' || PyDict_GET_SIZE(walk->links) >= MAX_LINKS) {
        return 0;
    }
    PyObject *url = resolved(&walk->base, href);
    int failed = url == NULL
                 || (url != Py_None && PyDict_SetItem(walk->links, url, Py_None) < 0);
    Py_XDECREF(url);
    return failed ? -1 : 0;
}

static int visit(Walk *walk, Node *node, unsigned kind)
{
    switch (kind) {
    case IMAGE:
        return take_image(walk, node);
    case HEADING:
        walk->heading = node;
        Py_CLEAR(walk->heading_text);
        return 0;
    case ANCHOR:
    case AREA:
        return take_link(walk, node, kind);
    case FIGCAPTION:
        return take_figcaption(walk, node);
    case META:
        return tell_attributes(walk, node, "take_meta");
    case LINK:
        return tell_attributes(walk, node, "take_relation");
    case BASE:
        return take_base(walk, node);
    case TITLE:
        return tell_text(walk, node, "take_title");
    case STYLE:
        return tell_text(walk, node, "take_sheet");
    case SCRIPT:
        return holds(attribute_of(node, (Name)NAME("type")), "ld+json")
                   ? tell_text(walk, node, "take_json") : 0;
    default:
        if (!walk->has_styled) {
            Bytes style = attribute_of(node, (Name)NAME("style"));
            walk->has_styled = style.length && has_word(style, "url(");
        }
        return 0;
    }
}

/* Visit every element below the document in the order of the page, without recursion. */
static int visit_all(Walk *walk, Node *root)
{
    Node *node = root;
    if (open_element(&walk->path, walk->reader.document) < 0) {
        return -1;
    }
    for (;;) {
        unsigned flags = tag_flags(node);
        if (flags & ELEMENT_NODE && visit(walk, node, flags & KIND) < 0) {
            return -1;
        }
        Node *next = lexbor.first_child(node);
        if (next != NULL && open_element(&walk->path, node) < 0) {
            return -1;
        }
        while (next == NULL) {
            if (node == root) {
                return 0;
            }
            next = lexbor.next(node);
            if (next == NULL) {
                node = walk->path.frames[--walk->path.depth].node;
            }
        }
        node = next;
    }
}

static int prepare(Walk *walk)
{
    walk->reader.rows = PyDict_New();
    walk->pictures = attribute_checked(walk->gatherer, "pictures", &PyDict_Type);
    walk->prose = attribute_checked(walk->gatherer, "prose", &PyList_Type);
    PyObject *length = attribute_checked(walk->gatherer, "prose_length", &PyLong_Type);
    walk->prose_length = length ? PyLong_AsSsize_t(length) : 0;
    Py_XDECREF(length);
    if (!walk->reader.rows || !walk->pictures || !walk->prose || PyErr_Occurred()) {
        return -1;
    }
    return read_base(walk);
}

static int finish(Walk *walk)
{
    PyObject *length = PyLong_FromSsize_t(walk->prose_length);
    int failed = !length || PyObject_SetAttrString(walk->gatherer, "prose_length", length) < 0;
    Py_XDECREF(length);
    return failed ? -1 : 0;
}

/* walk(root, head, gatherer, links) -> whether some element was selected for its style alone. */
static PyObject *walk_page(PyObject *module, PyObject *arguments)
{
    Walk walk;
    PyObject *root_address, *links;
    (void)module;
    memset(&walk, 0, sizeof walk);
    if (!PyArg_ParseTuple(arguments, "O!OOO", &PyLong_Type, &root_address, &walk.head,
                          &walk.gatherer, &links)) {
        return NULL;
    }
    if (twins.tidy == NULL || (links != Py_None && !PyDict_Check(links))) {
        PyErr_SetString(PyExc_TypeError, "walk needs its twins, and a dict of links or None");
        return NULL;
    }
    Node *root = PyLong_AsVoidPtr(root_address);
    if (root == NULL) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_False);
    }
    walk.links = links == Py_None ? NULL : links;
    walk.reader.document = lexbor.parent(root);
    int failed = walk.reader.document == NULL || prepare(&walk) < 0 || visit_all(&walk, root) < 0
                 || finish(&walk) < 0;
    PyMem_Free(walk.path.frames);
    PyMem_Free(walk.shown);
    forget_blocks(&walk.reader);
    Py_XDECREF(walk.reader.rows);
    Py_XDECREF(walk.pictures);
    Py_XDECREF(walk.prose);
    Py_XDECREF(walk.heading_text);
    Py_XDECREF(walk.base.url);
    Py_XDECREF(walk.base.root);
    Py_XDECREF(walk.base.folder);
    Py_XDECREF(walk.base.above);
    if (failed && !PyErr_Occurred()) {
        PyErr_SetString(PyExc_ValueError, "the root has no document");
    }
    return failed ? NULL : PyBool_FromLong(walk.has_styled);
}

/* survey(html) -> whether these bytes are ASCII without escape sequences, and how many "<" hold. */
static PyObject *survey(PyObject *module, PyObject *html)
{
    (void)module;
    if (!PyBytes_Check(html)) {
        PyErr_SetString(PyExc_TypeError, "a page is bytes");
        return NULL;
    }
    const unsigned char *data = (const unsigned char *)PyBytes_AS_STRING(html);
    const Py_ssize_t length = PyBytes_GET_SIZE(html), block = 255; /* counts of a byte's size */
    unsigned char odd = 0;
    Py_ssize_t tags = 0;
    for (Py_ssize_t start = 0; start < length; start += block) {
        const unsigned char *from = data + start;
        const Py_ssize_t size = length - start < block ? length - start : block;
        unsigned char count = 0;
        for (Py_ssize_t index = 0; index < size; index++) {
            count = (unsigned char)(count + (from[index] == '<'));
            odd |= (unsigned char)((from[index] & 0x80) | (from[index] == 0x1B));
        }
        tags += count;
    }
    return Py_BuildValue("On", odd ? Py_False : Py_True, tags);
}

/* prepare(library, tag_sets, twins): once, before the first walk. */
static PyObject *prepare_module(PyObject *module, PyObject *arguments)
{
    static const struct {
        const char *name;
        PyObject **place;
    } names[] = {
        {"near_text", &twins.near_text},
        {"file_words", &twins.file_words},
        {"names_furniture", &twins.names_furniture},
        {"names_caption", &twins.names_caption},
        {"container_inside", &twins.container_inside},
        {"declared_sides", &twins.declared_sides},
        {"dominance", &twins.dominance},
        {"furniture", &twins.furniture},
        {"lazy", &twins.lazy},
        {"tidy", &twins.tidy},
    };
    PyObject *library, *tag_sets, *given;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "UO!O!", &library, &PyDict_Type, &tag_sets, &PyDict_Type,
                          &given)
        || lexbor_load(library, tag_sets) < 0 || places_prepare() < 0) {
        return NULL;
    }
    PyObject *text = PyDict_GetItemString(given, "Text");
    PyObject *candidate = PyDict_GetItemString(given, "Candidate");
    if (!text || !candidate || !PyType_Check(text) || !PyType_Check(candidate)) {
        PyErr_SetString(PyExc_ImportError, "no types of texts and candidates");
        return NULL;
    }
    if (pictures_prepare(text, candidate) < 0) {
        return NULL;
    }
    for (size_t index = 0; index < sizeof names / sizeof *names; index++) {
        PyObject *twin = PyDict_GetItemString(given, names[index].name);
        if (twin == NULL) {
            return PyErr_Format(PyExc_ImportError, "no twin called %s", names[index].name);
        }
        Py_XSETREF(*names[index].place, Py_NewRef(twin));
    }
    return texts_prepare() < 0 ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef METHODS[] = {
    {"prepare", prepare_module, METH_VARARGS, "Find lexbor, and take what Python does for a walk."},
    {"walk", walk_page, METH_VARARGS, "Read a tree; say whether it shows pictures by style."},
    {"survey", survey, METH_O, "Say whether bytes are plain ASCII, and how many tags they open."},
    {"candidates", candidates_of, METH_VARARGS, "Return the candidates of a walk's pictures."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, "_walk", "The walk over a page's tree, in C.", -1, METHODS,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__walk(void)
{
    return PyModule_Create(&MODULE);
}
