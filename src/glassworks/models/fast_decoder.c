/* One token through a decoder of transformers, on the processor, as fast as its weights can be read.

   Compiled once by whatever C compiler is there and called by fast_decoder.py, which fills the structures below; they
   stand there in the same order. Weights are float32 or bfloat16 (16 bits: the upper half of a float32), rows of a map one
   after the other; everything else is float32. Each layer is: norm, queries, keys and values, attention over the kept keys,
   output map, norm, feed-forward. The map of a layer is read once for each token, which is what takes the time, so threads
   share its rows; whoever is free takes the next block, and nobody waits for a thread that the system has put to sleep. */

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { NO_NORM, LAYER_NORM, RMS_NORM };
enum { PRE, POST, BOTH };
enum { NO_FEED, LINEAR, RELU, GELU, GELU_TANH, SWIGLU, GEGLU, GEGLU_TANH };
enum { NO_HEAD_NORM, UNIT_LENGTH, HEAD_RMS };

typedef struct { const void *weight; const float *bias; int64_t rows, columns; } Map;
typedef struct { const float *gain, *offset; } Norm;
typedef struct {
    Norm before_mixing, after_mixing, before_feed, after_feed;
    Map query, key, value, output, gate, up, down;
    const float *query_gain, *key_gain, *result_gain, *slopes, *cosines, *sines;
    float *keys, *values;
    int64_t head_norm, feedforward, turned;
    double scale;
} Layer;
typedef struct {
    int64_t depth, width, heads, kv_heads, head_width, hidden, vocabulary, half_precision;
    int64_t norm, placement, reads_block_input, room, threads;
    double epsilon, embedding_factor, residual_factor, limit;
    const void *embedding; const float *positions; Norm first, last; Map unembedding; const Layer *layers;
} Model;

/* ---- threads: blocks of work that are taken one by one ------------------------------------------------------------ */

typedef struct Work Work;
struct Work {
    Model m;
    float *stream, *read, *query, *mixed, *result, *hidden, *scores, *apart, *logits;
    void (*task)(Work *, int64_t); int64_t position, layer;
    /* The number of the task in the upper half, the next block in the lower; `blocks` and `done` belong to that task. */
    _Atomic uint64_t ticket; _Atomic int64_t blocks, done; _Atomic int running, closing;
    pthread_t *helpers; pthread_mutex_t lock; pthread_cond_t awake;
};

static int take(Work *w) {
    uint64_t seen = atomic_load(&w->ticket);
    if ((int64_t)(seen & 0xffffffffu) >= atomic_load(&w->blocks)) return 0;
    if (!atomic_compare_exchange_strong(&w->ticket, &seen, seen + 1)) return 1;
    /* The task cannot change before this block is done, so what it needs can be read now. */
    w->task(w, (int64_t)(seen & 0xffffffffu));
    atomic_fetch_add(&w->done, 1);
    return 1;
}

static void *helper(void *given) {
    Work *w = given;
    for (int idle = 0;;) {
        if (take(w)) { idle = 0; continue; }
        if (atomic_load(&w->running) && ++idle < 20000) { if (idle % 64 == 0) sched_yield(); continue; }
        pthread_mutex_lock(&w->lock);
        while (!atomic_load(&w->running) && !atomic_load(&w->closing)) pthread_cond_wait(&w->awake, &w->lock);
        pthread_mutex_unlock(&w->lock);
        if (atomic_load(&w->closing)) return 0;
        idle = 0;
    }
}

static void share(Work *w, void (*task)(Work *, int64_t), int64_t blocks) {
    uint64_t number = atomic_load(&w->ticket) >> 32;
    /* Nobody can take a block while there are none. */
    atomic_store(&w->blocks, 0);
    atomic_store(&w->ticket, (number + 1) << 32);
    w->task = task;
    atomic_store(&w->done, 0);
    atomic_store(&w->blocks, blocks);
    while (take(w)) {}
    for (int spins = 0; atomic_load(&w->done) < blocks; ) if (++spins % 256 == 0) sched_yield();
}

/* ---- products ----------------------------------------------------------------------------------------------------- */

static inline float wide(uint16_t bits) { uint32_t u = (uint32_t)bits << 16; float f; memcpy(&f, &u, 4); return f; }

/* Sixteen numbers at a time; a processor with narrower registers takes them in parts. Weights need not be aligned. */
typedef float Floats __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));
typedef Floats AnyFloats __attribute__((aligned(4)));
typedef Words AnyWords __attribute__((aligned(2)));
enum { ROWS = 4, WIDTH = 16, AHEAD = 1024 };
static float sum(Floats v) { float s = 0; for (int i = 0; i < WIDTH; i++) s += v[i]; return s; }

/* Rows [first, last) of a map times x, four at once, so that x is read from the nearest memory once for all four. */
static void rows_float(const float *w, const float *x, float *out, int64_t n, int64_t first, int64_t last) {
    for (int64_t r = first, count; r < last; r += count) {
        const float *p = w + r * n; Floats total[ROWS] = {{0}};
        int64_t i = 0; count = r + ROWS <= last ? ROWS : 1;
        if (count == ROWS) for (; i + WIDTH <= n; i += WIDTH) {
            Floats y = *(const AnyFloats *)(x + i);
            _Pragma("GCC unroll 4") for (int k = 0; k < ROWS; k++) total[k] += *(const AnyFloats *)(p + k * n + i) * y;
        }
        for (int k = 0; k < count; k++) {
            float rest = sum(total[k]);
            for (int64_t j = i; j < n; j++) rest += p[k * n + j] * x[j];
            out[r + k] = rest;
        }
    }
}

/* The same of 16-bit weights. Two of them are one word: its upper half and its lower half are widened by a mask and a shift,
   and meet the odd and the even numbers of x, which were laid apart (`apart`, n / 2 even ones first) for that. */
static void rows_half(const uint16_t *w, const float *x, const float *apart, float *out, int64_t n, int64_t first, int64_t last) {
    const float *even = apart, *odd = apart + n / 2;
    for (int64_t r = first, count; r < last; r += count) {
        const uint16_t *p = w + r * n; Floats low[ROWS] = {{0}}, high[ROWS] = {{0}};
        int64_t i = 0; count = r + ROWS <= last ? ROWS : 1;
        if (count == ROWS) for (; i + 2 * WIDTH <= n; i += 2 * WIDTH) {
            Floats e = *(const AnyFloats *)(even + i / 2), o = *(const AnyFloats *)(odd + i / 2);
            _Pragma("GCC unroll 4") for (int k = 0; k < ROWS; k++) {
                Words u = *(const AnyWords *)(p + k * n + i);
                __builtin_prefetch(p + k * n + i + AHEAD);
                low[k] += (Floats)(u << 16) * e; high[k] += (Floats)(u & 0xffff0000u) * o;
            }
        }
        for (int k = 0; k < count; k++) {
            float rest = sum(low[k] + high[k]);
            for (int64_t j = i; j < n; j++) rest += wide(p[k * n + j]) * x[j];
            out[r + k] = rest;
        }
    }
}

static void rows(Work *w, const Map *map, const float *x, float *out, int64_t first, int64_t last) {
    if (w->m.half_precision) rows_half(map->weight, x, w->apart, out, map->columns, first, last);
    else rows_float(map->weight, x, out, map->columns, first, last);
    if (map->bias) for (int64_t r = first; r < last; r++) out[r] += map->bias[r];
}

/* What the next maps read, its even and its odd numbers apart. */
static void lay_apart(Work *w, const float *x, int64_t n) {
    if (w->m.half_precision) for (int64_t i = 0; i < n / 2; i++) { w->apart[i] = x[2 * i]; w->apart[n / 2 + i] = x[2 * i + 1]; }
}

/* Rows of a block: about 100 kB of weights, so that a block outweighs the taking of it. */
static int64_t block_of(Work *w, const Map *map) {
    int64_t size = 100000 / (map->columns * (w->m.half_precision ? 2 : 4) + 1) / 4 * 4;
    return size < 4 ? 4 : size;
}
static int64_t blocks_of(Work *w, const Map *map) { int64_t b = block_of(w, map); return (map->rows + b - 1) / b; }
static void block(Work *w, const Map *map, const float *x, float *out, int64_t which) {
    int64_t b = block_of(w, map), last = (which + 1) * b;
    rows(w, map, x, out, which * b, last < map->rows ? last : map->rows);
}

/* ---- the parts of a layer ----------------------------------------------------------------------------------------- */

static void normalise(const Model *m, const float *x, Norm norm, float *out) {
    double mean = 0, spread = 0; int64_t n = m->width;
    if (m->norm == NO_NORM || !norm.gain) { if (out != x) memcpy(out, x, n * sizeof(float)); return; }
    if (m->norm == LAYER_NORM) { for (int64_t i = 0; i < n; i++) mean += x[i]; mean /= n; }
    for (int64_t i = 0; i < n; i++) spread += (x[i] - mean) * (x[i] - mean);
    float factor = (float)(1.0 / sqrt(spread / n + m->epsilon)), middle = (float)mean;
    for (int64_t i = 0; i < n; i++) out[i] = (x[i] - middle) * factor * norm.gain[i] + (norm.offset ? norm.offset[i] : 0);
}

static void normalise_head(const Model *m, int64_t kind, const float *gain, float *x) {
    double total = 0; int64_t n = m->head_width;
    for (int64_t i = 0; i < n; i++) total += (double)x[i] * x[i];
    double length = sqrt(total);
    float factor = kind == UNIT_LENGTH ? (float)(1.0 / (length > 1e-12 ? length : 1e-12)) : (float)(1.0 / sqrt(total / n + m->epsilon));
    for (int64_t i = 0; i < n; i++) x[i] *= factor * (gain ? gain[i] : 1);
}

static void turn(const Layer *l, int64_t position, float *x) {
    int64_t half = l->turned / 2; const float *c = l->cosines + position * half, *s = l->sines + position * half;
    for (int64_t i = 0; i < half; i++) {
        float a = x[i], b = x[i + half];
        x[i] = a * c[i] - b * s[i]; x[i + half] = b * c[i] + a * s[i];
    }
}

static float active(int64_t kind, float x) {
    switch (kind) {
    case RELU: return x > 0 || x != x ? x : 0;
    case GELU: case GEGLU: return 0.5f * x * (1 + erff(x * 0.70710678f));
    case GELU_TANH: case GEGLU_TANH: return 0.5f * x * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    case SWIGLU: return x / (1 + expf(-x));
    default: return x;
    }
}

/* Queries, keys and values are one list of blocks. */
static void project(Work *w, int64_t which) {
    const Layer *l = w->m.layers + w->layer;
    int64_t n = w->m.kv_heads * w->m.head_width; float *key = w->query + w->m.heads * w->m.head_width;
    int64_t a = blocks_of(w, &l->query), b = blocks_of(w, &l->key);
    if (which < a) block(w, &l->query, w->read, w->query, which);
    else if (which < a + b) block(w, &l->key, w->read, key, which - a);
    else block(w, &l->value, w->read, key + n, which - a - b);
}

static void attend(Work *w, int64_t head) {
    const Model *m = &w->m; const Layer *l = m->layers + w->layer; int64_t n = m->head_width, p = w->position;
    const float *keys = l->keys + head / (m->heads / m->kv_heads) * m->room * n;
    const float *values = l->values + head / (m->heads / m->kv_heads) * m->room * n;
    float *q = w->query + head * n, *scores = w->scores + head * m->room, *out = w->mixed + head * n, top = -INFINITY, total = 0;
    for (int64_t j = 0; j <= p; j++) {
        const float *k = keys + j * n; float s = 0;
        _Pragma("omp simd reduction(+ : s)")
        for (int64_t i = 0; i < n; i++) s += q[i] * k[i];
        s = s * (float)l->scale + (l->slopes ? l->slopes[head] * (float)(j - p) : 0);
        scores[j] = s; if (s > top) top = s;
    }
    for (int64_t j = 0; j <= p; j++) total += scores[j] = expf(scores[j] - top);
    memset(out, 0, n * sizeof(float));
    for (int64_t j = 0; j <= p; j++) {
        const float *v = values + j * n; float part = scores[j] / total;
        for (int64_t i = 0; i < n; i++) out[i] += part * v[i];
    }
    if (l->result_gain) normalise_head(m, HEAD_RMS, l->result_gain, out);
}
static void give_back(Work *w, int64_t which) { block(w, &w->m.layers[w->layer].output, w->mixed, w->result, which); }
static void widen(Work *w, int64_t which) {
    const Layer *l = w->m.layers + w->layer; int64_t b = block_of(w, &l->up), last = (which + 1) * b;
    if (last > l->up.rows) last = l->up.rows;
    rows(w, &l->up, w->read, w->hidden, which * b, last);
    if (l->gate.weight) {
        float *gate = w->hidden + w->m.hidden;
        rows(w, &l->gate, w->read, gate, which * b, last);
        for (int64_t i = which * b; i < last; i++) w->hidden[i] *= active(l->feedforward, gate[i]);
    } else for (int64_t i = which * b; i < last; i++) w->hidden[i] = active(l->feedforward, w->hidden[i]);
}
static void narrow(Work *w, int64_t which) {
    const Layer *l = w->m.layers + w->layer;
    block(w, &l->down, l->feedforward == LINEAR ? w->read : w->hidden, w->result, which);
}
static void unembed(Work *w, int64_t which) { block(w, &w->m.unembedding, w->read, w->logits, which); }

/* Queries and keys are normalised and turned; keys and values are kept. */
static void keep(Work *w) {
    const Model *m = &w->m; const Layer *l = m->layers + w->layer; int64_t n = m->head_width;
    float *key = w->query + m->heads * n, *value = key + m->kv_heads * n;
    for (int64_t h = 0; h < m->heads + m->kv_heads; h++) {
        float *x = w->query + h * n;
        if (l->head_norm == HEAD_RMS) normalise_head(m, HEAD_RMS, h < m->heads ? l->query_gain : l->key_gain, x);
        if (l->turned) turn(l, w->position, x);
        if (l->head_norm == UNIT_LENGTH) normalise_head(m, UNIT_LENGTH, 0, x);
    }
    for (int64_t h = 0; h < m->kv_heads; h++) {
        memcpy(l->keys + (h * m->room + w->position) * n, key + h * n, n * sizeof(float));
        memcpy(l->values + (h * m->room + w->position) * n, value + h * n, n * sizeof(float));
    }
}

static void add(Work *w, Norm norm) {
    const Model *m = &w->m;
    if (m->placement == BOTH) normalise(m, w->result, norm, w->result);
    for (int64_t i = 0; i < m->width; i++) w->stream[i] = (float)m->residual_factor * w->stream[i] + w->result[i];
    if (m->placement == POST) normalise(m, w->stream, norm, w->stream);
}

static void layer(Work *w) {
    const Model *m = &w->m; const Layer *l = m->layers + w->layer;
    Norm none = {0, 0}, mixing = m->placement == POST ? none : l->before_mixing, feed = m->placement == POST ? none : l->before_feed;
    float *received = w->hidden + 2 * m->hidden;
    if (m->reads_block_input) memcpy(received, w->stream, m->width * sizeof(float));
    normalise(m, w->stream, mixing, w->read);
    lay_apart(w, w->read, m->width);
    share(w, project, blocks_of(w, &l->query) + blocks_of(w, &l->key) + blocks_of(w, &l->value));
    keep(w);
    share(w, attend, m->heads);
    lay_apart(w, w->mixed, l->output.columns);
    share(w, give_back, blocks_of(w, &l->output));
    add(w, m->placement == POST ? l->before_mixing : l->after_mixing);
    if (l->feedforward != NO_FEED) {
        normalise(m, m->reads_block_input ? received : w->stream, feed, w->read);
        lay_apart(w, w->read, m->width);
        if (l->feedforward != LINEAR) { share(w, widen, blocks_of(w, &l->up)); lay_apart(w, w->hidden, m->hidden); }
        share(w, narrow, blocks_of(w, &l->down));
        add(w, m->placement == POST ? l->before_feed : l->after_feed);
    }
    if (m->limit > 0) for (int64_t i = 0; i < m->width; i++) {
        float x = w->stream[i], most = (float)m->limit;
        w->stream[i] = x > most ? most : x < -most ? -most : x;
    }
}

/* ---- what Python calls -------------------------------------------------------------------------------------------- */

Work *begin(const Model *m) {
    Work *w = calloc(1, sizeof(Work));
    int64_t queries = m->heads * m->head_width, all = queries + 2 * m->kv_heads * m->head_width;
    w->m = *m;
    w->stream = malloc(m->width * 4); w->read = malloc(m->width * 4); w->result = malloc(m->width * 4);
    w->query = malloc(all * 4); w->mixed = malloc(queries * 4); w->hidden = malloc((2 * m->hidden + m->width) * 4);
    w->scores = malloc(m->heads * m->room * 4); w->apart = malloc((m->hidden + m->width + queries) * 4); w->helpers = calloc(m->threads, sizeof(pthread_t));
    pthread_mutex_init(&w->lock, 0); pthread_cond_init(&w->awake, 0);
    for (int64_t i = 1; i < m->threads; i++)
        if (pthread_create(&w->helpers[i], 0, helper, w)) { w->m.threads = i; break; }
    return w;
}

/* The logits after one more token, which stands at `position`; keys of all positions before it are kept already. */
void step(Work *w, int64_t token, int64_t position, float *logits) {
    const Model *m = &w->m;
    w->position = position; w->logits = logits;
    if (m->threads > 1) {
        pthread_mutex_lock(&w->lock); atomic_store(&w->running, 1); pthread_cond_broadcast(&w->awake); pthread_mutex_unlock(&w->lock);
    }
    for (int64_t i = 0; i < m->width; i++) {
        float x = m->half_precision ? wide(((const uint16_t *)m->embedding)[token * m->width + i]) : ((const float *)m->embedding)[token * m->width + i];
        w->stream[i] = x * (float)m->embedding_factor + (m->positions ? m->positions[position * m->width + i] : 0);
    }
    normalise(m, w->stream, m->first, w->stream);
    for (w->layer = 0; w->layer < m->depth; w->layer++) layer(w);
    normalise(m, w->stream, m->last, w->read);
    lay_apart(w, w->read, m->width);
    share(w, unembed, blocks_of(w, &m->unembedding));
    atomic_store(&w->running, 0);
}

void finish(Work *w) {
    pthread_mutex_lock(&w->lock); atomic_store(&w->closing, 1); pthread_cond_broadcast(&w->awake); pthread_mutex_unlock(&w->lock);
    for (int64_t i = 1; i < w->m.threads; i++) pthread_join(w->helpers[i], 0);
    free(w->stream); free(w->read); free(w->result); free(w->query); free(w->mixed); free(w->hidden); free(w->scores); free(w->apart); free(w->helpers);
    free(w);
}
