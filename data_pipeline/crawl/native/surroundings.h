/* The texts beside images and in the rows beneath them: the twins are texts.py and image_tables.py. */
#ifndef TRAWL_SURROUNDINGS_H
#define TRAWL_SURROUNDINGS_H

#include "texts.h"

/* A block that was read from its beginning or its end. */
typedef struct {
    Node *node;
    int after;
    PyObject *text;
} Block;

/* What has been read of one tree: blocks of late, and rows by the addresses of their nodes. */
#define BLOCKS 512
typedef struct {
    Node *document;
    PyObject *rows;
    Block blocks[BLOCKS];
} Reader;

/* A text beside an image, NULL if there is none, and the element that it is all of. */
typedef struct {
    PyObject *text;
    Node *element;
} Neighbour;

void forget_blocks(Reader *reader);
PyObject *tidy_text_of(Reader *reader, Node *node);
int neighbours(Reader *reader, Node *image, Neighbour *after, Neighbour *before);
PyObject *caption_beneath(Reader *reader, Node *cell);

#endif
