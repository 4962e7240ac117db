/* Texts in plain ASCII, done here; all others are asked of the twins in Python. */
#ifndef TRAWL_TEXTS_H
#define TRAWL_TEXTS_H

#include "lexbor.h"

/* What Python does for the walk: functions, and two sets of words. */
struct Twins {
    PyObject *tidy;
    PyObject *near_text;
    PyObject *file_words;
    PyObject *names_furniture;
    PyObject *names_caption;
    PyObject *container_inside;
    PyObject *declared_sides;
    PyObject *dominance;
    PyObject *furniture;
    PyObject *lazy;
};
extern struct Twins twins;

int texts_prepare(void);
int is_space(unsigned char byte);
Bytes stripped(Bytes text);
int is_ascii(Bytes text);
int has_word(Bytes text, const char *word);
PyObject *tidy(Bytes text);
PyObject *near_text(Bytes text, int after);
PyObject *file_words(PyObject *url);
int names_furniture(PyObject *words, Bytes class_names, Bytes alt);
int names_caption(Bytes class_names);

#endif
