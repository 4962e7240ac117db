/* Pictures in the making, and the candidates that come of them: the twin is in candidates.py. */
#ifndef TRAWL_PICTURES_H
#define TRAWL_PICTURES_H

#include "texts.h"

enum { ALT, TITLE_TEXT, ARIA, CAPTION, SURROUNDING, ANCHOR_TEXT, HEADING_TEXT, FILENAME };

typedef struct {
    PyObject_HEAD
    PyObject *addresses; /* a list, best first */
    PyObject *container;
    PyObject *width;
    PyObject *height;
    PyObject *texts; /* a list of Texts, each once */
    unsigned empty;  /* a bit for each source that gave an empty text, which counts as one too */
    long times;
    int in_link;
    int in_figure;
    int furniture;
} Picture;

Picture *picture_new(PyObject *addresses);
Py_ssize_t texts_held(const Picture *picture);
int add_text(Picture *picture, int source, PyObject *text);
PyObject *candidates_of(PyObject *module, PyObject *arguments);
int pictures_prepare(PyObject *text_type, PyObject *candidate_type);

#endif
