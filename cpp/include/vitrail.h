/* Classify pictures by a bundle of vitrail. A C interface: no exception, abort or exit crosses it.
 *
 *   vitrail_error error;
 *   vitrail_model *model = NULL;
 *   if (vitrail_open("bundle", NULL, &model, &error) != 0) { fputs(error.text, stderr); return error.exit_code; }
 *   float *logits = malloc(vitrail_class_count(model) * sizeof *logits);
 *   if (vitrail_classify_file(model, "cat.jpg", logits, vitrail_class_count(model), &error) != 0) ...
 *   vitrail_close(model);
 *
 * Every call that can fail returns 0, or the exit code of its error, which `error` then holds in full; `error` may be
 * NULL. Threads: every call may be made from several threads at once, also on one model, but for vitrail_close, which
 * must be the last call on its model. No call keeps a pointer that it was given. */
#ifndef VITRAIL_H
#define VITRAIL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VITRAIL_API __attribute__((visibility("default")))

typedef struct vitrail_model vitrail_model;

typedef struct {
  int exit_code;   /* 2 refused, 4 fault of disk, memory or system, 6 NaN or Inf, 70 a bug of ours */
  char code[8];    /* a row of docs/errors.md, "V302" for one; empty for a bug of ours */
  char text[1012]; /* what went wrong, evidence and the way out; lines end in \n, cut where it is longer */
} vitrail_error;

typedef struct {
  const char *engine;    /* NULL: the first that runs the most exact graph; "openvino", "onnx" (ONNX Runtime),
                            "torchscript", "aoti"; with "-bf16" or the like behind it; a graph by its name */
  const char *precision; /* what OpenVINO computes in: "f32", "bf16", "f16"; NULL: what an IR is of, f32 for ONNX */
  int threads;           /* 0: every core. LibTorch's are those of the process: the last model that says a number */
  int trust;             /* 1: programs ("torchscript", "aoti") may run that were not made on this machine */
  int batch;             /* pictures that come at a time as a rule, 0 is 1: OpenVINO compiles the graph for so many */
} vitrail_options;

typedef struct {
  int channels, height, width;
} vitrail_shape;

/* "0.1.0". Thread-safe. */
VITRAIL_API const char *vitrail_version(void);

/* The bundle in `folder` on an engine, every byte of it checked against its manifest. options: NULL for the defaults.
 * Errors V501 to V505, V509, V003, V007, V702, V703. Thread-safe. */
VITRAIL_API int vitrail_open(const char *folder, const vitrail_options *options, vitrail_model **model,
                             vitrail_error *error);

/* Gives everything back. NULL is allowed. Not to be called while another call on the model runs. */
VITRAIL_API void vitrail_close(vitrail_model *model);

/* Number of classes, the length of one row of logits. Thread-safe. */
VITRAIL_API size_t vitrail_class_count(const vitrail_model *model);

/* UTF-8; lives as long as the model. NULL beyond the last class. Thread-safe. */
VITRAIL_API const char *vitrail_class_name(const vitrail_model *model, size_t place);

/* What the network takes. Thread-safe. */
VITRAIL_API vitrail_shape vitrail_input_shape(const vitrail_model *model);

/* Logits of one picture: a file, or the bytes of one (JPEG, PNG, WebP), or its pixels (height, width, channels), 8-bit,
 * rows from the top, channels 1 or 3 or as the network. logits: room for `count` = vitrail_class_count floats.
 * Errors V301 to V305, V007 for another count, V505, V703, V811. Thread-safe. */
VITRAIL_API int vitrail_classify_file(const vitrail_model *model, const char *path, float *logits, size_t count,
                                      vitrail_error *error);
VITRAIL_API int vitrail_classify_bytes(const vitrail_model *model, const void *data, size_t size, float *logits,
                                       size_t count, vitrail_error *error);
VITRAIL_API int vitrail_classify_pixels(const vitrail_model *model, const uint8_t *pixels, vitrail_shape shape,
                                        float *logits, size_t count, vitrail_error *error);

/* Logits (batch, classes) of normalised pictures (batch, C, H, W). logits: room for `count` = batch * classes floats.
 * Errors V007 for another count or a graph that takes pixels, V505, V703, V811. Thread-safe. */
VITRAIL_API int vitrail_logits(const vitrail_model *model, const float *images, size_t batch, float *logits,
                               size_t count, vitrail_error *error);

/* Probabilities of logits, in double, as Python computes them. Thread-safe. */
VITRAIL_API void vitrail_softmax(const float *logits, double *probabilities, size_t count);

#ifdef __cplusplus
}
#endif

#endif
