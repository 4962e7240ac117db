/* One pass over a page's tree: who takes what. */
#ifndef TRAWL_WALK_H
#define TRAWL_WALK_H

#include "addresses.h"
#include "pictures.h"
#include "places.h"
#include "surroundings.h"

/* A figure and a picture in it, which the walk's pictures keep. */
typedef struct {
    Node *figure;
    Picture *picture;
} Shown;

typedef struct {
    Reader reader;
    Path path;
    PyObject *head;
    PyObject *gatherer;
    PyObject *links; /* NULL where links are left out */
    PyObject *pictures;
    PyObject *prose;
    Shown *shown;
    size_t shown_count;
    size_t shown_room;
    BaseUrl base;
    Py_ssize_t prose_length;
    Node *heading;
    PyObject *heading_text;
    int has_styled;
} Walk;

int take_image(Walk *walk, Node *node);
int take_figcaption(Walk *walk, Node *node);

#endif
