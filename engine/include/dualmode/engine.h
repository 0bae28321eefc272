/* The C API of the device engine: open an artifact, push samples, get text.
 *
 * Functions return a code, 0 for success, and fill `error` unless it is NULL. They neither throw
 * exceptions nor exit. An open model is immutable and may be shared by any number of threads. A
 * stream must be used by one thread at a time. There is no global state.
 */
#ifndef DUALMODE_ENGINE_H
#define DUALMODE_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32) && defined(DUALMODE_SHARED)
#ifdef DUALMODE_BUILDING
#define DUALMODE_API __declspec(dllexport)
#else
#define DUALMODE_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define DUALMODE_API __attribute__((visibility("default")))
#else
#define DUALMODE_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

enum dualmode_code {
  DUALMODE_OK = 0,
  DUALMODE_INVALID_ARGUMENT = 1, /* a null pointer, an option out of its range */
  DUALMODE_CANNOT_OPEN = 2,      /* the file is missing or cannot be read */
  DUALMODE_BAD_ARTIFACT = 3,     /* not an artifact, damaged, or inconsistent */
  DUALMODE_UNSUPPORTED = 4,      /* a version, a kernel or a use that this build does not have */
  DUALMODE_BAD_SAMPLES = 5,      /* NaN or infinity; the stream is unchanged */
  DUALMODE_FINISHED = 6,         /* the stream was finished: reset it or create a new one */
  DUALMODE_OUT_OF_MEMORY = 7,
  DUALMODE_INTERNAL = 8
};

typedef struct dualmode_error {
  int code;
  char message[256]; /* what is wrong and what to do about it, UTF-8, ends in 0 */
} dualmode_error;

typedef struct dualmode_model dualmode_model;
typedef struct dualmode_stream dualmode_stream;

/* Description of an open model. Strings are valid as long as the model. */
typedef struct dualmode_description {
  const char* card;    /* JSON: name, parameters, sparsity and more */
  const char* kernels; /* name of the kernels in use: "scalar", "avx2", ... */
  uint64_t artifact_bytes;
  uint64_t state_bytes; /* memory of a stream between two chunks, without workspace */
  uint32_t version;     /* of the format */
  uint32_t sample_rate_hz;
  uint32_t streams; /* 1: chunked context; 0: full context, dualmode_transcribe only */
  uint32_t chunk_frames, left_frames, lookahead_frames; /* of frame_ms; 0 for full context */
  uint32_t width, layers, vocabulary, joiner_width, context_tokens;
  float sparsity;
  uint32_t frame_ms; /* time from one frame of the encoder to the next: 40 or 80 */
} dualmode_description;

typedef struct dualmode_word {
  const char* text;
  double start_s, end_s; /* from the start of the stream */
  double confidence;     /* geometric mean of the probabilities of its tokens, 0 to 1 */
} dualmode_word;

/* Text of a stream; pointers are valid until the next call on that stream. */
typedef struct dualmode_text {
  const char* text; /* UTF-8, words separated by spaces */
  const dualmode_word* words;
  size_t word_count;
  size_t stable_words; /* number of leading words that will not change any more */
  double seconds;      /* end of the audio of this text */
} dualmode_text;

/* Fill with dualmode_default_options first. */
typedef struct dualmode_options {
  uint32_t beam_width; /* 1: greedy search; more: modified beam search */
  int endpointing;     /* whether pauses divide the stream into segments */
  double silence_s;    /* time without a token that ends a segment */
  double longest_s;    /* a longer segment is divided before its last word */
  double tail_s;       /* silence appended at the end, so that last words are emitted */
  int keep_finished;   /* whether finish returns the text of all segments; 0 limits memory */
} dualmode_options;

DUALMODE_API void dualmode_default_options(dualmode_options* options);

/* Open an artifact by mapping its file; on Windows `path` is UTF-8. `kernels` is the name of the
 * kernels to run; NULL or "" selects the best that this processor supports. Environment variables
 * are not read. */
DUALMODE_API int dualmode_open(const char* path, const char* kernels, dualmode_model** model,
                               dualmode_error* error);
/* The same for an artifact in memory, aligned to 4 bytes, which must outlive the model. */
DUALMODE_API int dualmode_open_memory(const void* bytes, size_t size, const char* kernels,
                                      dualmode_model** model, dualmode_error* error);
/* A model may be closed before its streams, which keep the memory they need. NULL is ignored. */
DUALMODE_API void dualmode_close(dualmode_model* model);
DUALMODE_API int dualmode_describe(const dualmode_model* model, dualmode_description* description,
                                   dualmode_error* error);
/* Names of the kernels that this build and processor support, best first, separated by spaces. */
DUALMODE_API const char* dualmode_kernel_names(void);

/* Options may be NULL. */
DUALMODE_API int dualmode_stream_new(const dualmode_model* model, const dualmode_options* options,
                                     dualmode_stream** stream, dualmode_error* error);
/* Process `count` more samples at 16 kHz: floats in [-1, 1], or 16-bit integers.
 * `changed` (may be NULL) is set to 1 if the text changed or a segment ended. */
DUALMODE_API int dualmode_stream_push(dualmode_stream* stream, const float* samples, size_t count,
                                      int* changed, dualmode_error* error);
DUALMODE_API int dualmode_stream_push_int16(dualmode_stream* stream, const int16_t* samples,
                                            size_t count, int* changed, dualmode_error* error);
/* Push to many streams of one model as a batch, which reads the weights only once. `changed` (may
 * be NULL) has a place for each stream. */
DUALMODE_API int dualmode_streams_push(dualmode_stream* const* streams,
                                       const float* const* samples, const size_t* counts,
                                       size_t stream_count, int* changed, dualmode_error* error);
/* Words since the last endpoint. */
DUALMODE_API int dualmode_stream_partial(dualmode_stream* stream, dualmode_text* text,
                                         dualmode_error* error);
/* Take the oldest finished segment; `there` is set to 0 if there is none. */
DUALMODE_API int dualmode_stream_segment(dualmode_stream* stream, dualmode_text* text, int* there,
                                         dualmode_error* error);
/* End the stream and get its whole text, or the text since the last endpoint if keep_finished is
 * 0. */
DUALMODE_API int dualmode_stream_finish(dualmode_stream* stream, dualmode_text* text,
                                        dualmode_error* error);
/* Discard all audio and text, and start anew. */
DUALMODE_API int dualmode_stream_reset(dualmode_stream* stream, dualmode_error* error);
DUALMODE_API void dualmode_stream_free(dualmode_stream* stream); /* NULL is ignored */

/* Recognise a whole recording, also with a model of full context, which cannot stream. The text
 * belongs to `stream`, a new handle that the caller must free. */
DUALMODE_API int dualmode_transcribe(const dualmode_model* model, const dualmode_options* options,
                                     const float* samples, size_t count, dualmode_stream** stream,
                                     dualmode_text* text, dualmode_error* error);

#ifdef __cplusplus
}
#endif
#endif
