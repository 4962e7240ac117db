/* Plain addresses and srcsets: the twins are address.py and srcset.py. */
#ifndef TRAWL_ADDRESSES_H
#define TRAWL_ADDRESSES_H

#include "texts.h"

/* The strings that a page's plain references are put behind. */
typedef struct {
    PyObject *url; /* the Base, asked for all other references */
    PyObject *root; /* NULL where no reference is plain */
    PyObject *folder;
    PyObject *above;
} BaseUrl;

PyObject *resolved_plainly(const BaseUrl *base, Bytes reference);
PyObject *resolved(const BaseUrl *base, Bytes reference);

#define MAX_ENTRIES 40
typedef struct {
    Bytes address;
    double size;
    char unit;
} Entry;

int plain_entries(Bytes srcset, Entry *entries);

#endif
