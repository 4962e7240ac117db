#include "walk.h"

#include <string.h>

#define MAX_SOURCES 100
#define MAX_ALTERNATIVES 4
#define MAX_CANDIDATES 2000
#define MAX_PICTURE_TEXTS 48
#define PROSE 1000
#define SENTENCE 60
#define MAX_CAPTION_TEXT 300

/* ---- texts ---- */

static int add_figure(Walk *walk, Picture *picture, Node *figure)
{
    if (walk->shown_count == walk->shown_room) {
        size_t room = walk->shown_room ? 2 * walk->shown_room : 32;
        Shown *shown = PyMem_Realloc(walk->shown, room * sizeof *shown);
        if (shown == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        walk->shown = shown;
        walk->shown_room = room;
    }
    walk->shown[walk->shown_count++] = (Shown){figure, picture};
    if (add_text(picture, ARIA, tidy(attribute_of(figure, (Name)NAME("aria-label")))) < 0) {
        return -1;
    }
    Node *first = lexbor.first_child(figure);
    while (first != NULL && tag_flags(first) & TEXT_NODE) {
        first = lexbor.next(first);
    }
    if (first != NULL && (tag_flags(first) & KIND) == FIGCAPTION) {
        return add_text(picture, CAPTION, tidy_text_of(&walk->reader, first));
    }
    return 0;
}

static int add_neighbour(Walk *walk, Picture *picture, Neighbour found)
{
    int caption = 0;
    Py_ssize_t length = PyUnicode_GET_LENGTH(found.text);
    if (walk->prose_length < PROSE && length > SENTENCE) {
        walk->prose_length += length;
        if (PyList_Append(walk->prose, found.text) < 0) {
            return -1;
        }
    }
    if (found.element != NULL && length < MAX_CAPTION_TEXT) {
        caption = (tag_flags(found.element) & KIND) == FIGCAPTION;
        if (!caption && tag_flags(found.element) & ELEMENT_NODE) {
            caption = names_caption(attribute_of(found.element, (Name)NAME("class")));
        }
    }
    return caption < 0 ? -1
                       : add_text(picture, caption ? CAPTION : SURROUNDING, Py_NewRef(found.text));
}

static int add_surroundings(Walk *walk, Picture *picture, Node *image)
{
    Neighbour after = {NULL, NULL}, before = {NULL, NULL};
    int failed = neighbours(&walk->reader, image, &after, &before);
    if (!failed && after.text != NULL) {
        failed = add_neighbour(walk, picture, after);
    }
    if (!failed && before.text != NULL) {
        failed = add_neighbour(walk, picture, before);
    }
    Py_XDECREF(after.text);
    Py_XDECREF(before.text);
    return failed;
}

static int add_heading(Walk *walk, Picture *picture)
{
    if (walk->heading_text == NULL) {
        walk->heading_text = tidy_text_of(&walk->reader, walk->heading);
    }
    return add_text(picture, HEADING_TEXT, Py_XNewRef(walk->heading_text));
}

/* ---- images ---- */

/* The attributes of an img that are asked for by name. */
typedef struct {
    Bytes src, srcset, alt, title, aria, class_names, width, height, style;
    int lazy;
} Image;

static int read_image(Node *element, Image *image)
{
    const struct {
        Name name;
        Bytes *place;
    } wanted[] = {
        {NAME("src"), &image->src},       {NAME("srcset"), &image->srcset},
        {NAME("alt"), &image->alt},       {NAME("title"), &image->title},
        {NAME("width"), &image->width},   {NAME("aria-label"), &image->aria},
        {NAME("height"), &image->height}, {NAME("class"), &image->class_names},
        {NAME("style"), &image->style},
    };
    for (Attribute *attribute = lexbor.first_attribute(element); attribute != NULL;
         attribute = lexbor.next_attribute(attribute)) {
        Bytes name = name_of(attribute);
        for (size_t index = 0; index < sizeof wanted / sizeof *wanted; index++) {
            if (is_named(name, wanted[index].name)) {
                *wanted[index].place = value_of(attribute);
                break;
            }
        }
        if (name.length > 5 && memcmp(name.data, "data-", 5) == 0) {
            PyObject *string = string_of(name);
            int lazy = string ? PySequence_Contains(twins.lazy, string) : -1;
            Py_XDECREF(string);
            if (lazy < 0) {
                return -1;
            }
            image->lazy |= lazy;
        }
    }
    return 0;
}

/* Add a resolved address, which is taken over, unless it is there or None; 1 when that is enough. */
static int add_address(PyObject *addresses, PyObject *url)
{
    int known = url == NULL ? -1 : url == Py_None ? 1 : PySequence_Contains(addresses, url);
    int failed = known < 0 || (known == 0 && PyList_Append(addresses, url) < 0);
    Py_XDECREF(url);
    return failed ? -1 : PyList_GET_SIZE(addresses) > MAX_ALTERNATIVES;
}

/* Ask the twin for all that an image with lazy attributes or in a picture element names. */
static PyObject *addresses_by_twin(Walk *walk, Node *node, Node *parent)
{
    PyObject *attributes = attributes_of(node), *list = PyList_New(0), *found = NULL;
    Node *source = lexbor.prev(node);
    int failed = attributes == NULL || list == NULL;
    int in_picture = (tag_flags(parent) & KIND) == PICTURE;
    for (int count = 0; in_picture && !failed && source != NULL && count < MAX_SOURCES; count++) {
        if ((tag_flags(source) & KIND) == SOURCE) {
            PyObject *item = attributes_of(source);
            failed = item == NULL || PyList_Append(list, item) < 0;
            Py_XDECREF(item);
        }
        source = lexbor.prev(source);
    }
    if (!failed && PyList_Reverse(list) == 0) {
        found = PyObject_CallMethod(walk->gatherer, "addresses_of", "OO", attributes, list);
    }
    Py_XDECREF(attributes);
    Py_XDECREF(list);
    return found;
}

/* Resolve one address as written; None if it is none. */
static PyObject *address_of(Walk *walk, Bytes written)
{
    PyObject *url = resolved_plainly(&walk->base, written);
    if (url != NULL || PyErr_Occurred()) {
        return url;
    }
    PyObject *string = string_of(written);
    url = string ? PyObject_CallMethod(walk->gatherer, "address_of", "O", string) : NULL;
    Py_XDECREF(string);
    return url;
}

/* Order entries by falling size, equals as they stood. */
static void sort_entries(Entry *entries, int count)
{
    for (int index = 1; index < count; index++) {
        Entry entry = entries[index];
        int place = index;
        for (; place > 0 && entries[place - 1].size < entry.size; place--) {
            entries[place] = entries[place - 1];
        }
        entries[place] = entry;
    }
}

static PyObject *addresses_of(Walk *walk, Node *node, Node *parent, const Image *image)
{
    Entry entries[MAX_ENTRIES];
    int count = image->srcset.length ? plain_entries(image->srcset, entries) : 0;
    if (image->lazy || (image->srcset.length && count == 0) || (tag_flags(parent) & KIND) == PICTURE) {
        return addresses_by_twin(walk, node, parent);
    }
    PyObject *found = PyList_New(0);
    int enough = found == NULL ? -1 : 0;
    sort_entries(entries, count);
    /* Widths, then densities above one, then src, then what is no denser than src. */
    for (int turn = 0; turn < 4 && enough == 0; turn++) {
        if (turn == 2 && image->src.length) {
            enough = add_address(found, address_of(walk, image->src));
        }
        for (int index = 0; index < count && enough == 0 && turn != 2; index++) {
            int kind = entries[index].unit == 'w' ? 0 : entries[index].size > 1 ? 1 : 3;
            if (kind == turn) {
                enough = add_address(found, address_of(walk, entries[index].address));
            }
        }
    }
    if (enough < 0) {
        Py_CLEAR(found);
    }
    return found;
}

/* Return a declared side in pixels as Python has it; NULL without an error if the twin must say. */
static PyObject *plain_side(Bytes value)
{
    long side = 0;
    for (size_t index = 0; index < value.length; index++) {
        if (value.length > 5 || value.data[index] < '0' || value.data[index] > '9') {
            return NULL;
        }
        side = 10 * side + (value.data[index] - '0');
    }
    return side ? PyLong_FromLong(side) : Py_NewRef(Py_None);
}

static int add_sides(Picture *picture, Node *node, const Image *image)
{
    int plain = !image->style.length
                || (is_ascii(image->style) && !has_word(image->style, "width")
                    && !has_word(image->style, "height"));
    if (plain) {
        picture->width = plain_side(image->width);
        picture->height = picture->width ? plain_side(image->height) : NULL;
        if (picture->height != NULL) {
            return 0;
        }
        Py_CLEAR(picture->width);
    }
    PyObject *attributes = PyErr_Occurred() ? NULL : attributes_of(node);
    PyObject *sides = attributes ? PyObject_CallOneArg(twins.declared_sides, attributes) : NULL;
    int failed = sides == NULL || !PyTuple_Check(sides) || PyTuple_GET_SIZE(sides) != 2;
    if (!failed) {
        picture->width = Py_NewRef(PyTuple_GET_ITEM(sides, 0));
        picture->height = Py_NewRef(PyTuple_GET_ITEM(sides, 1));
    }
    Py_XDECREF(attributes);
    Py_XDECREF(sides);
    return failed ? -1 : 0;
}

/* Make a picture that is met for the first time and put it among the others. */
static Picture *new_picture(Walk *walk, Node *node, const Image *image, PyObject *addresses,
                            const Place *place)
{
    Picture *picture = picture_new(addresses);
    PyObject *words = picture ? file_words(PyList_GET_ITEM(addresses, 0)) : NULL;
    if (words == NULL) {
        Py_XDECREF(picture);
        return NULL;
    }
    picture->container = Py_NewRef(place->container);
    picture->in_link = place->anchor != NULL;
    picture->in_figure = place->figure != NULL;
    picture->furniture = names_furniture(words, image->class_names, image->alt);
    if (picture->furniture < 0 || add_sides(picture, node, image) < 0
        || add_text(picture, FILENAME, Py_NewRef(words)) < 0
        || PyDict_SetItem(walk->pictures, PyList_GET_ITEM(addresses, 0), (PyObject *)picture) < 0) {
        Py_CLEAR(picture);
    }
    Py_DECREF(words);
    return picture;
}

/* Return a picture, new or met before; a reference of one's own. */
static Picture *picture_of(Walk *walk, Node *node, const Image *image, PyObject *addresses,
                           const Place *place)
{
    Picture *picture
        = (Picture *)PyDict_GetItemWithError(walk->pictures, PyList_GET_ITEM(addresses, 0));
    if (picture == NULL) {
        return PyErr_Occurred() ? NULL : new_picture(walk, node, image, addresses, place);
    }
    picture->times++;
    Py_INCREF(picture);
    return picture;
}

/* Add the address of the image file that a thumbnail links to behind the picture's own first. */
static int add_target(Walk *walk, Picture *picture, Bytes target)
{
    static const char *const endings[] = {"jpg", "jpeg", "jpe", "png", "webp", "gif", "bmp"};
    size_t end = 0, dot = 0;
    while (end < target.length && target.data[end] != '#' && target.data[end] != '?') {
        end++;
        dot = target.data[end - 1] == '.' ? end : dot;
    }
    int image = 0;
    for (size_t index = 0; index < sizeof endings / sizeof *endings && dot; index++) {
        Bytes ending = {target.data + dot, end - dot};
        image |= ending.length == strlen(endings[index]) && has_word(ending, endings[index]);
    }
    PyObject *string = image ? string_of(target) : NULL;
    if (string == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    PyObject *url = PyObject_CallMethod(walk->gatherer, "full_size", "O", string);
    PyObject *addresses = picture->addresses;
    int known = url == NULL ? -1 : url == Py_None ? 1 : PySequence_Contains(addresses, url);
    int failed = known < 0 || (known == 0 && PyList_Insert(addresses, 1, url) < 0);
    Py_DECREF(string);
    Py_XDECREF(url);
    return failed ? -1 : 0;
}

/* Give a picture the texts of one of its places in the page. */
static int add_texts(Walk *walk, Picture *picture, Node *node, const Image *image, Place place,
                     Bytes anchor_title)
{
    if ((image->alt.length && add_text(picture, ALT, tidy(image->alt)) < 0)
        || (image->title.length && add_text(picture, TITLE_TEXT, tidy(image->title)) < 0)
        || (image->aria.length && add_text(picture, ARIA, tidy(image->aria)) < 0)
        || (place.figure != NULL && add_figure(walk, picture, place.figure) < 0)) {
        return -1;
    }
    PyObject *beneath = place.cell ? caption_beneath(&walk->reader, place.cell) : NULL;
    if (beneath == NULL && PyErr_Occurred()) {
        return -1;
    }
    if (beneath != NULL && PyUnicode_GET_LENGTH(beneath)) {
        if (add_text(picture, CAPTION, Py_NewRef(beneath)) < 0) {
            return -1;
        }
    } else if (add_surroundings(walk, picture, node) < 0) {
        return -1;
    }
    if (place.anchor != NULL
        && (add_text(picture, ANCHOR_TEXT, tidy(anchor_title)) < 0
            || add_text(picture, ANCHOR_TEXT, tidy_text_of(&walk->reader, place.anchor)) < 0)) {
        return -1;
    }
    return walk->heading ? add_heading(walk, picture) : 0;
}

int take_image(Walk *walk, Node *node)
{
    Image image;
    memset(&image, 0, sizeof image);
    if (read_image(node, &image) < 0) {
        return -1;
    }
    PyObject *addresses = addresses_of(walk, node, walk->path.frames[walk->path.depth - 1].node, &image);
    if (addresses == NULL) {
        return -1;
    }
    int failed = 0;
    if (PyList_GET_SIZE(addresses) && PyDict_GET_SIZE(walk->pictures) < MAX_CANDIDATES) {
        const Place *place = place_now(&walk->path);
        Picture *picture = place ? picture_of(walk, node, &image, addresses, place) : NULL;
        failed = picture == NULL;
        Bytes anchor_title = {NULL, 0};
        if (!failed && place->anchor != NULL) {
            anchor_title = attribute_of(place->anchor, (Name)NAME("title"));
            failed = add_target(walk, picture, attribute_of(place->anchor, (Name)NAME("href")));
        }
        if (!failed && texts_held(picture) < MAX_PICTURE_TEXTS) {
            failed = add_texts(walk, picture, node, &image, *place, anchor_title);
        }
        Py_XDECREF(picture);
    }
    Py_DECREF(addresses);
    return failed ? -1 : 0;
}

/* A figcaption belongs to every image of its figure that came before it, too. */
int take_figcaption(Walk *walk, Node *node)
{
    const Place *place = place_now(&walk->path);
    PyObject *text = NULL;
    int failed = place == NULL;
    for (size_t index = 0; !failed && place->figure && index < walk->shown_count; index++) {
        if (walk->shown[index].figure == place->figure) {
            text = text ? text : tidy_text_of(&walk->reader, node);
            failed = add_text(walk->shown[index].picture, CAPTION, Py_XNewRef(text)) < 0;
        }
    }
    Py_XDECREF(text);
    return failed ? -1 : 0;
}
