/* Where elements stand in their page: the twin is structure.py. */
#ifndef TRAWL_PLACES_H
#define TRAWL_PLACES_H

#include "texts.h"

/* What an element's ancestors, itself included, say about everything inside of it. */
typedef struct {
    PyObject *container; /* borrowed: the twins' tables keep it */
    Node *anchor;
    Node *figure;
    Node *cell;
} Place;

typedef struct {
    Node *node;
    int known;
    Place place;
} Frame;

/* The open elements above the one that is visited, the document first. */
typedef struct {
    Frame *frames;
    size_t depth;
    size_t room;
} Path;

int places_prepare(void);
int open_element(Path *path, Node *node);
const Place *place_now(Path *path);

#endif
