#include "texts.h"

#include <string.h>

#define MAX_TEXT 500
#define MAX_SURROUNDING 300

struct Twins twins;

/* White space as `str.split` has it, among ASCII, and bytes of other letters. */
enum { PLAIN, SPACE, FOREIGN };
#define FOREIGN_16 \
    FOREIGN, FOREIGN, FOREIGN, FOREIGN, FOREIGN, FOREIGN, FOREIGN, FOREIGN, FOREIGN, FOREIGN, \
        FOREIGN, FOREIGN, FOREIGN, FOREIGN, FOREIGN, FOREIGN
static const unsigned char CLASSES[256] = {
    ['\t'] = SPACE, ['\n'] = SPACE, ['\v'] = SPACE, ['\f'] = SPACE, ['\r'] = SPACE,
    [0x1C] = SPACE, [0x1D] = SPACE, [0x1E] = SPACE, [0x1F] = SPACE, [' '] = SPACE,
    [0x80] = FOREIGN_16, FOREIGN_16, FOREIGN_16, FOREIGN_16, FOREIGN_16, FOREIGN_16, FOREIGN_16,
    FOREIGN_16,
};

int is_space(unsigned char byte)
{
    return CLASSES[byte] == SPACE;
}

int is_ascii(Bytes text)
{
    unsigned char all = 0;
    for (size_t index = 0; index < text.length; index++) {
        all |= (unsigned char)text.data[index];
    }
    return all < 0x80;
}

/* Say whether this is ASCII without any space but single ones: nothing to tidy but the ends. */
static int is_tidy(const char *data, size_t length)
{
    unsigned char odd = 0;
    for (size_t index = 0; index < length; index++) {
        unsigned char byte = (unsigned char)data[index];
        odd |= (unsigned char)((byte < 0x20) | (byte >= 0x80));
    }
    for (size_t index = 1; index < length; index++) {
        odd |= (unsigned char)((data[index - 1] == ' ') & (data[index] == ' '));
    }
    return odd == 0;
}

/* Return `text` without ASCII white space at its ends. */
Bytes stripped(Bytes text)
{
    while (text.length && is_space((unsigned char)text.data[0])) {
        text.data++;
        text.length--;
    }
    while (text.length && is_space((unsigned char)text.data[text.length - 1])) {
        text.length--;
    }
    return text;
}

static unsigned char lower(unsigned char byte)
{
    return byte >= 'A' && byte <= 'Z' ? byte + 32 : byte;
}

/* Say whether `text` holds `word`, which is in small letters, in any case of ASCII. */
int has_word(Bytes text, const char *word)
{
    size_t length = strlen(word);
    for (size_t start = 0; start + length <= text.length; start++) {
        size_t same = 0;
        while (same < length && lower((unsigned char)text.data[start + same]) == (unsigned char)word[same]) {
            same++;
        }
        if (same == length) {
            return 1;
        }
    }
    return 0;
}

static PyObject *ascii_string(const char *data, size_t length)
{
    PyObject *string = PyUnicode_New((Py_ssize_t)length, 127);
    if (string != NULL && length) {
        memcpy(PyUnicode_1BYTE_DATA(string), data, length);
    }
    return string;
}

static PyObject *asked(PyObject *twin, Bytes text, PyObject *more)
{
    PyObject *string = string_of(text);
    if (string == NULL) {
        return NULL;
    }
    PyObject *found = PyObject_CallFunctionObjArgs(twin, string, more, NULL);
    Py_DECREF(string);
    return found;
}

/* Put the words of ASCII text together with single spaces, until more than `limit` characters.
 *
 * Reads the text from its end if not `forward`, so that the result stands the wrong way round.
 * `out` has room for `limit` + 2. Returns the length, -1 where other letters come up.
 */
static Py_ssize_t collapsed(Bytes text, int forward, Py_ssize_t limit, char *out)
{
    const char *at = forward ? text.data : text.data + text.length - 1;
    int step = forward ? 1 : -1, space = 0;
    Py_ssize_t length = 0;
    for (size_t left = text.length; left > 0 && length <= limit; left--, at += step) {
        unsigned char byte = (unsigned char)*at;
        if (CLASSES[byte] == PLAIN) {
            if (space) {
                out[length++] = ' ';
                space = 0;
            }
            out[length++] = (char)byte;
        } else if (CLASSES[byte] == FOREIGN) {
            return -1;
        } else {
            space = length > 0;
        }
    }
    return length;
}

static size_t least(size_t one, size_t two)
{
    return one < two ? one : two;
}

/* Return a text with single spaces, at most MAX_TEXT characters of it. */
PyObject *tidy(Bytes text)
{
    char out[MAX_TEXT + 2];
    Bytes inner = text.length <= 4 * MAX_TEXT ? stripped(text) : text;
    if (inner.length <= MAX_TEXT && is_tidy(inner.data, inner.length)) {
        return ascii_string(inner.data, inner.length);
    }
    Bytes beginning = {text.data, least(text.length, 4 * MAX_TEXT)};
    Py_ssize_t length = collapsed(beginning, 1, MAX_TEXT, out);
    if (length < 0) {
        return asked(twins.tidy, text, NULL);
    }
    if (length > MAX_TEXT) {
        length = MAX_TEXT - (out[MAX_TEXT - 1] == ' ');
    }
    return ascii_string(out, (size_t)length);
}

/* Cut what is tidy as far as it is looked at, the quick way; NULL without an error if it is not. */
static PyObject *near_tidy_text(Bytes text, int after)
{
    size_t whole = text.length;
    while (text.length && is_space((unsigned char)text.data[after ? 0 : text.length - 1])) {
        text.data += after;
        text.length--;
    }
    size_t length = least(text.length, MAX_SURROUNDING + 1);
    const char *data = after ? text.data : text.data + text.length - length;
    if (whole - text.length > MAX_SURROUNDING || !is_tidy(data, length)) {
        return NULL;
    }
    if (length <= MAX_SURROUNDING) {
        Bytes inner = stripped((Bytes){data, length});
        return ascii_string(inner.data, inner.length);
    }
    if (data[after ? MAX_SURROUNDING : 0] == ' ') {
        return NULL; /* it may end there */
    }
    data += !after;
    length = MAX_SURROUNDING;
    if (after) {
        while (length && data[length - 1] != ' ') {
            length--;
        }
        return ascii_string(data, length ? length - 1 : MAX_SURROUNDING);
    }
    const char *space = memchr(data, ' ', length);
    length -= space ? (size_t)(space + 1 - data) : 0;
    return ascii_string(space ? space + 1 : data, length);
}

/* Return whole words from the end of a text that is nearer to an image. */
PyObject *near_text(Bytes text, int after)
{
    char out[MAX_SURROUNDING + 2];
    PyObject *found = near_tidy_text(text, after);
    if (found != NULL || PyErr_Occurred()) {
        return found;
    }
    Bytes end = {text.data, least(text.length, 4 * MAX_SURROUNDING)};
    end.data += after ? 0 : text.length - end.length;
    Py_ssize_t length = collapsed(end, after, MAX_SURROUNDING, out);
    if (length < 0) {
        return asked(twins.near_text, text, after ? Py_True : Py_False);
    }
    if (length > MAX_SURROUNDING) { /* cut, at a space if there is one */
        length = MAX_SURROUNDING;
        while (length && out[length - 1] != ' ') {
            length--;
        }
        length = length > 1 ? length - 1 : MAX_SURROUNDING;
    }
    for (Py_ssize_t index = 0; !after && index < length / 2; index++) {
        char byte = out[index];
        out[index] = out[length - 1 - index];
        out[length - 1 - index] = byte;
    }
    return ascii_string(out, (size_t)length);
}

/* Return the words in the name of the file at a canonical address. */
PyObject *file_words(PyObject *url)
{
    if (!PyUnicode_IS_ASCII(url)) {
        return PyObject_CallOneArg(twins.file_words, url);
    }
    const char *data = (const char *)PyUnicode_1BYTE_DATA(url);
    size_t end = (size_t)PyUnicode_GET_LENGTH(url), start, dot;
    const char *query = memchr(data, '?', end);
    end = query ? (size_t)(query - data) : end;
    for (start = end; start > 0 && data[start - 1] != '/'; start--) {
    }
    for (dot = end; dot > start && data[dot - 1] != '.'; dot--) {
    }
    end = dot > start + 1 ? dot - 1 : end;
    char out[2 * MAX_TEXT];
    size_t length = 0;
    int space = 0, letters = 0;
    for (size_t index = start; index < end && index < start + MAX_TEXT; index++) {
        unsigned char byte = (unsigned char)data[index];
        if (byte == '%' || (byte >= 'A' && byte <= 'Z')) {
            return PyObject_CallOneArg(twins.file_words, url);
        }
        int letter = byte >= 'a' && byte <= 'z';
        if (!letter && !(byte >= '0' && byte <= '9')) {
            space = length > 0;
            continue;
        }
        if (space) {
            out[length++] = ' ';
            space = 0;
        }
        letters |= letter;
        out[length++] = (char)byte;
    }
    return letters ? ascii_string(out, length) : PyObject_CallOneArg(twins.file_words, url);
}

#define MAX_NAMED 1000
#define LETTERS 26

/* The lengths of the words for furniture by their first letters, a bit each. */
static uint32_t lengths[LETTERS];

/* Look at the words for furniture; all are of small letters, and of less than 32. */
int texts_prepare(void)
{
    PyObject *word, *words = PyObject_GetIter(twins.furniture);
    while (words != NULL && (word = PyIter_Next(words))) {
        Py_ssize_t length;
        const char *text = PyUnicode_AsUTF8AndSize(word, &length);
        if (text != NULL && length > 0 && length < 32 && *text >= 'a' && *text <= 'z') {
            lengths[*text - 'a'] |= 1u << length;
        } else if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ImportError, "an odd word for furniture");
        }
        Py_DECREF(word);
    }
    Py_XDECREF(words);
    return PyErr_Occurred() ? -1 : 0;
}

/* Say whether one of the words in small letters speaks of furniture; -1 on an error. */
static int has_furniture(const char *text, size_t length)
{
    for (size_t start = 0; start < length;) {
        size_t end = start;
        while (end < length && text[end] != ' ') {
            end++;
        }
        if (end > start && end - start < 32 && lengths[text[start] - 'a'] >> (end - start) & 1) {
            PyObject *word = ascii_string(text + start, end - start);
            int found = word ? PySet_Contains(twins.furniture, word) : -1;
            Py_XDECREF(word);
            if (found) {
                return found;
            }
        }
        start = end + 1;
    }
    return 0;
}

/* Say whether file name, class or alt speak of a page's furniture; -1 on an error. */
int names_furniture(PyObject *words, Bytes class_names, Bytes alt)
{
    char text[MAX_NAMED];
    size_t length = 0;
    Bytes own = {NULL, 0};
    own.data = PyUnicode_AsUTF8AndSize(words, (Py_ssize_t *)&own.length);
    const Bytes parts[] = {own, class_names, alt};
    int plain = own.data != NULL && PyUnicode_IS_ASCII(words);
    for (int part = 0; part < 3 && plain; part++) {
        for (size_t index = 0; index < parts[part].length && length < MAX_NAMED; index++) {
            unsigned char byte = lower((unsigned char)parts[part].data[index]);
            plain = plain && byte < 0x80;
            text[length++] = byte >= 'a' && byte <= 'z' ? (char)byte : ' ';
        }
        if (length < MAX_NAMED) {
            text[length++] = ' ';
        }
    }
    if (plain) {
        return has_furniture(text, length);
    }
    PyObject *first = string_of(class_names.data ? class_names : (Bytes){"", 0});
    PyObject *second = string_of(alt.data ? alt : (Bytes){"", 0});
    PyObject *found = first && second ? PyObject_CallFunctionObjArgs(
                          twins.names_furniture, words, first, second, NULL) : NULL;
    Py_XDECREF(first);
    Py_XDECREF(second);
    int said = found ? PyObject_IsTrue(found) : -1;
    Py_XDECREF(found);
    return said;
}

/* Say whether an element's class calls it a caption; -1 on an error. */
int names_caption(Bytes class_names)
{
    if (is_ascii(class_names)) {
        return has_word(class_names, "caption") || has_word(class_names, "legend")
               || has_word(class_names, "cutline");
    }
    PyObject *found = asked(twins.names_caption, class_names, NULL);
    int said = found ? PyObject_IsTrue(found) : -1;
    Py_XDECREF(found);
    return said;
}
