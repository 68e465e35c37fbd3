/* A server with known times, for benchmarks: it answers when it is told to, and runs no model.
 *
 *     cc -O2 -o known_server known_server.c
 *     ./known_server --port 11500 --ttft 0.2 --itl 0.02 --tokens 64 [--slots N] [--apart] [--dies-of TEXT]
 *
 * It speaks Ollama's /api/generate and /api/chat (NDJSON) and OpenAI's /v1/completions and /v1/chat/completions
 * (SSE), streamed or not. Token k (from 0) of an answer is due at the request's arrival + ttft +
 * k * itl, the end one itl after the last token; with --slots N a request beyond N waits for its
 * turn, and counts from there. What is due at once goes out in one write, with --apart in one
 * write a token. A request that contains TEXT ends the server at once. Nothing is drawn by chance.
 *
 * It knows what was true: GET /seen has counts, how late it was itself (a write against its due
 * time), its CPU time; GET /requests has a JSON line per answered request: when it came, when its
 * first and last token went out, how late at most, and its seed (CLOCK_MONOTONIC seconds, the
 * clock of Python's time.perf_counter). DELETE /seen forgets all of that.
 * paced_server.py is its slower sister, which fails in the ways that tests ask for.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MAX_REQUEST = 4 << 20, EVENTS = 512, ROOM = 256 };
#define MODEL "known:latest"
#define CREATED "2026-01-01T00:00:00.000000000Z"

typedef int64_t ns;
typedef enum { OLLAMA, OLLAMA_CHAT, COMPLETION, CHAT } Api;

static bool is_ollama(Api api)
{
    return api == OLLAMA || api == OLLAMA_CHAT;
}

static struct {
    ns ttft, itl;
    int tokens, slots;
    bool apart;
    const char *fatal;
} pace = {.tokens = 8};

/* --- growing arrays and buffers --- */

static void *grown(void *memory, size_t *room, size_t need, size_t item)
{
    if (need <= *room)
        return memory;
    *room = need * 2 + 64;
    memory = realloc(memory, *room * item);
    if (!memory)
        abort();
    return memory;
}

typedef struct {
    char *data;
    size_t size, room;
} Buffer;

static void add(Buffer *buffer, const char *data, size_t size)
{
    buffer->data = grown(buffer->data, &buffer->room, buffer->size + size + 1, 1);
    memcpy(buffer->data + buffer->size, data, size);
    buffer->size += size;
    buffer->data[buffer->size] = 0;
}

static void addf(Buffer *buffer, const char *format, ...)
{
    char text[1024];
    va_list given;
    va_start(given, format);
    int size = vsnprintf(text, sizeof text, format, given);
    va_end(given);
    add(buffer, text, size < (int)sizeof text ? size : (int)sizeof text - 1);
}

static void drop(Buffer *buffer, size_t size)
{
    memmove(buffer->data, buffer->data + size, buffer->size - size);
    buffer->size -= size;
}

static ns now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* --- what was true --- */

typedef struct {
    ns received, first, last, late;
    long seed;
} Truth;

static struct {
    long requests, connections, in_flight, most_in_flight, ended_early;
    Truth *truths;
    float *lateness; /* seconds, one per write */
    size_t answered, truths_room, writes, lateness_room;
    ns cpu;
} seen;

static ns cpu_used(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000000LL +
           (used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1000LL;
}

static void forget(void)
{
    seen.requests = seen.connections = seen.ended_early = 0;
    seen.most_in_flight = seen.in_flight;
    seen.answered = seen.writes = 0;
    seen.cpu = cpu_used();
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void add_distribution(Buffer *out, const char *name, float *values, size_t n)
{
    double sum = 0;
    qsort(values, n, sizeof *values, ascending);
    for (size_t i = 0; i < n; i++)
        sum += values[i];
    if (!n)
        addf(out, "\"%s\": {\"n\": 0}", name);
    else
        addf(out, "\"%s\": {\"mean\": %.9f, \"p50\": %.9f, \"p99\": %.9f, \"max\": %.9f, \"n\": %zu}",
             name, sum / n, values[n / 2], values[(size_t)((n - 1) * 0.99)], values[n - 1], n);
}

static void describe(Buffer *out)
{
    float *ttfts = malloc((seen.answered + 1) * sizeof *ttfts);
    for (size_t i = 0; i < seen.answered; i++)
        ttfts[i] = (seen.truths[i].first - seen.truths[i].received) * 1e-9;
    addf(out,
         "{\"requests\": %ld, \"answered\": %zu, \"connections\": %ld, \"in_flight\": %ld, "
         "\"most_in_flight\": %ld, \"ended_early\": %ld, \"cpu_seconds\": %.6f, ",
         seen.requests, seen.answered, seen.connections, seen.in_flight, seen.most_in_flight,
         seen.ended_early, (cpu_used() - seen.cpu) * 1e-9);
    add_distribution(out, "lateness_seconds", seen.lateness, seen.writes);
    addf(out, ", ");
    add_distribution(out, "ttft_seconds", ttfts, seen.answered);
    addf(out, "}\n");
    free(ttfts);
}

static void list_requests(Buffer *out)
{
    for (size_t i = 0; i < seen.answered; i++) {
        Truth *t = &seen.truths[i];
        addf(out,
             "{\"received\": %.9f, \"first\": %.9f, \"last\": %.9f, \"late\": %.9f, "
             "\"seed\": %ld}\n",
             t->received * 1e-9, t->first * 1e-9, t->last * 1e-9, t->late * 1e-9, t->seed);
    }
}

/* --- connections, and the heap of those whose next token has a time --- */

typedef struct Connection {
    int fd;
    Buffer in, out;
    ns arrived, due, base;
    Truth truth;
    Api api;
    int tokens, made;
    bool busy, working, stream, usage, closing;
    size_t place; /* in the heap, from 1; 0: not there */
    struct Connection *next;
} Connection;

static Connection **heap;
static size_t heap_size, heap_room;
static Connection *first_waiting, **last_waiting = &first_waiting;
static int working, poll_fd;

static void put(size_t place, Connection *c)
{
    heap[place] = c;
    c->place = place;
}

static void rise(size_t place, Connection *c)
{
    for (; place > 1 && c->due < heap[place / 2]->due; place /= 2)
        put(place, heap[place / 2]);
    put(place, c);
}

static void sink(size_t place, Connection *c)
{
    for (size_t child; (child = place * 2) <= heap_size; place = child) {
        if (child < heap_size && heap[child + 1]->due < heap[child]->due)
            child++;
        if (c->due <= heap[child]->due)
            break;
        put(place, heap[child]);
    }
    put(place, c);
}

static void schedule(Connection *c)
{
    heap = grown(heap, &heap_room, heap_size + 2, sizeof *heap);
    rise(++heap_size, c);
}

static void unschedule(Connection *c)
{
    size_t place = c->place;
    if (!place)
        return;
    Connection *moved = heap[heap_size--];
    c->place = 0;
    if (moved == c)
        return;
    if (place > 1 && moved->due < heap[place / 2]->due)
        rise(place, moved);
    else
        sink(place, moved);
}

/* --- sending --- */

static void watch(Connection *c, int how, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    epoll_ctl(poll_fd, how, c->fd, &event);
}

/* Send what is in `out`; what the kernel does not take now goes when it can. */
static void flush(Connection *c)
{
    if (!c->out.size)
        return;
    ssize_t done = send(c->fd, c->out.data, c->out.size, MSG_NOSIGNAL);
    if (done < 0 && errno != EAGAIN)
        c->closing = true;
    if (done == (ssize_t)c->out.size)
        c->out.size = 0;
    else {
        drop(&c->out, done > 0 ? done : 0);
        watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    }
}

static void answer(Connection *c, int status, const char *type, const Buffer *body)
{
    addf(&c->out, "HTTP/1.1 %d X\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n", status, type,
         body->size);
    add(&c->out, body->data ? body->data : "", body->size);
    flush(c);
}

static void answer_text(Connection *c, int status, const char *text)
{
    Buffer body = {0};
    add(&body, text, strlen(text));
    answer(c, status, "application/json", &body);
    free(body.data);
}

/* --- an answer: its tokens and its end --- */

static void add_chunk(Buffer *out, const Buffer *data)
{
    addf(out, "%zx\r\n", data->size);
    add(out, data->data, data->size);
    add(out, "\r\n", 2);
}

static const char *const TOKEN[] = {
    [OLLAMA] = "{\"model\":\"" MODEL "\",\"created_at\":\"" CREATED
               "\",\"response\":\" a\",\"done\":false}\n",
    [OLLAMA_CHAT] = "{\"model\":\"" MODEL "\",\"created_at\":\"" CREATED
                    "\",\"message\":{\"role\":\"assistant\",\"content\":\" a\"},\"done\":false}\n",
    [COMPLETION] = "data: {\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":1767225600,"
                   "\"model\":\"" MODEL "\",\"choices\":[{\"text\":\" a\",\"index\":0,"
                   "\"finish_reason\":null}]}\n\n",
    [CHAT] = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":"
             "1767225600,\"model\":\"" MODEL "\",\"choices\":[{\"index\":0,\"delta\":{"
             "\"role\":\"assistant\",\"content\":\" a\"},\"finish_reason\":null}]}\n\n",
};

static Buffer token_chunks[CHAT + 1]; /* TOKEN as it goes out, chunked */

static void prepare(void)
{
    for (Api api = OLLAMA; api <= CHAT; api++) {
        Buffer line = {.data = (char *)TOKEN[api], .size = strlen(TOKEN[api])};
        add_chunk(&token_chunks[api], &line);
    }
}

static void add_usage(Buffer *out, const Connection *c)
{
    addf(out, "\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":%d,\"total_tokens\":%d}",
         c->tokens, c->tokens + 7);
}

static void add_end_ollama(Buffer *out, const Connection *c)
{
    addf(out,
         "\"done\":true,\"done_reason\":\"length\",\"total_duration\":%lld,"
         "\"load_duration\":1000000,\"prompt_eval_count\":7,\"prompt_eval_duration\":%lld,"
         "\"eval_count\":%d,\"eval_duration\":%lld}\n",
         (long long)(now() - c->truth.received), (long long)pace.ttft, c->tokens,
         (long long)(c->tokens * pace.itl));
}

static void add_end_openai(Buffer *out, const Connection *c)
{
    const char *chat = c->api == CHAT ? "chat.completion.chunk" : "text_completion";
    const char *text = c->api == CHAT ? "\"delta\":{}" : "\"text\":\"\"";
    const char *head = "data: {\"id\":\"cmpl-1\",\"object\":\"%s\",\"created\":1767225600,"
                       "\"model\":\"" MODEL "\",\"choices\":[";
    addf(out, head, chat);
    addf(out, "{\"index\":0,%s,\"finish_reason\":\"length\"}]}\n\n", text);
    if (c->usage) {
        addf(out, head, chat);
        addf(out, "],");
        add_usage(out, c);
        addf(out, "}\n\n");
    }
    addf(out, "data: [DONE]\n\n");
}

static void add_end(Buffer *out, const Connection *c)
{
    if (!is_ollama(c->api))
        return add_end_openai(out, c);
    addf(out, "{\"model\":\"" MODEL "\",\"created_at\":\"" CREATED "\",%s,",
         c->api == OLLAMA ? "\"response\":\"\""
                          : "\"message\":{\"role\":\"assistant\",\"content\":\"\"}");
    add_end_ollama(out, c);
}

static void answer_whole(Connection *c)
{
    Buffer text = {0}, body = {0};
    for (int i = 0; i < c->tokens; i++)
        add(&text, " a", 2);
    if (is_ollama(c->api)) {
        bool chat = c->api == OLLAMA_CHAT;
        addf(&body, "{\"model\":\"" MODEL "\",\"created_at\":\"" CREATED "\",%s\"",
             chat ? "\"message\":{\"role\":\"assistant\",\"content\":" : "\"response\":");
        add(&body, text.data, text.size);
        addf(&body, chat ? "\"}," : "\",");
        add_end_ollama(&body, c);
    } else {
        addf(&body, "{\"id\":\"cmpl-1\",\"object\":\"%s\",\"created\":1767225600,\"model\":\"" MODEL
                    "\",\"choices\":[{\"index\":0,\"finish_reason\":\"length\",%s\"",
             c->api == CHAT ? "chat.completion" : "text_completion",
             c->api == CHAT ? "\"message\":{\"role\":\"assistant\",\"content\":" : "\"text\":");
        add(&body, text.data, text.size);
        addf(&body, "\"%s}],", c->api == CHAT ? "}" : "");
        add_usage(&body, c);
        addf(&body, "}");
    }
    answer(c, 200, "application/json", &body);
    free(text.data);
    free(body.data);
}

static void begin(Connection *c)
{
    c->working = true;
    working++;
    c->base = pace.slots ? now() : c->truth.received;
    c->due = c->base + pace.ttft;
    c->made = 0;
    schedule(c);
}

/* The answer is over, or its reader is gone: the next one may have its slot. */
static void end(Connection *c)
{
    unschedule(c);
    seen.in_flight--;
    c->busy = false;
    if (!c->working) {
        Connection **link = &first_waiting;
        while (*link != c)
            link = &(*link)->next;
        *link = c->next;
        if (!*link)
            last_waiting = link;
        return;
    }
    c->working = false;
    working--;
    if (first_waiting) {
        Connection *turn = first_waiting;
        first_waiting = turn->next;
        if (!first_waiting)
            last_waiting = &first_waiting;
        begin(turn);
    }
}

static void stamp(Connection *c, ns due)
{
    ns at = now(), late = at - due;
    seen.lateness = grown(seen.lateness, &seen.lateness_room, seen.writes + 1, sizeof(float));
    seen.lateness[seen.writes++] = late * 1e-9;
    if (!c->truth.first)
        c->truth.first = at;
    c->truth.last = at;
    if (late > c->truth.late)
        c->truth.late = late;
}

static void finish(Connection *c)
{
    seen.truths = grown(seen.truths, &seen.truths_room, seen.answered + 1, sizeof(Truth));
    seen.truths[seen.answered++] = c->truth;
    end(c);
}

/* Send what is due at `until`: tokens, in the end the last chunk. */
static void advance(Connection *c, ns until)
{
    ns due = c->due;
    while (c->made < c->tokens && c->due <= until) {
        if (!c->made && c->stream)
            addf(&c->out,
                 "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n",
                 is_ollama(c->api) ? "application/x-ndjson" : "text/event-stream");
        if (c->stream)
            add(&c->out, token_chunks[c->api].data, token_chunks[c->api].size);
        c->due = c->base + pace.ttft + ++c->made * pace.itl;
        if (pace.apart)
            flush(c);
    }
    bool over = c->made == c->tokens && c->due <= until;
    if (over && c->stream) {
        Buffer last = {0};
        add_end(&last, c);
        add_chunk(&c->out, &last);
        free(last.data);
        add(&c->out, "0\r\n\r\n", 5);
    }
    if (over && !c->stream)
        answer_whole(c);
    flush(c);
    stamp(c, due);
    if (over)
        finish(c);
    else
        sink(c->place, c);
}

/* --- requests --- */

/* The whole number that follows `key` in a JSON text, or `otherwise`. */
static long number(const char *json, const char *key, long otherwise)
{
    const char *at = strstr(json, key);
    if (!at)
        return otherwise;
    at += strlen(key);
    at += strspn(at, " \t:");
    return strchr("-0123456789", *at) && *at ? strtol(at, NULL, 10) : otherwise;
}

static bool is_true(const char *json, const char *key, bool otherwise)
{
    const char *at = strstr(json, key);
    if (!at)
        return otherwise;
    at += strlen(key);
    at += strspn(at, " \t:");
    return !strncmp(at, "true", 4);
}

static void generate(Connection *c, Api api, const char *body)
{
    if (pace.fatal && strstr(body, pace.fatal))
        _exit(1);
    c->api = api;
    c->stream = is_true(body, "\"stream\"", is_ollama(api));
    c->usage = is_true(body, "\"include_usage\"", false);
    c->tokens = number(body, is_ollama(api) ? "\"num_predict\"" : "\"max_tokens\"", 0);
    if (c->tokens <= 0)
        c->tokens = number(body, "\"max_completion_tokens\"", pace.tokens);
    c->truth = (Truth){.received = c->arrived, .seed = number(body, "\"seed\"", -1)};
    c->busy = true;
    seen.requests++;
    if (++seen.in_flight > seen.most_in_flight)
        seen.most_in_flight = seen.in_flight;
    if (!pace.slots || working < pace.slots)
        return begin(c);
    c->next = NULL;
    *last_waiting = c;
    last_waiting = &c->next;
}

static const struct {
    const char *path, *answer;
} FIXED[] = {
    {"GET /api/version ", "{\"version\":\"0.0.0-known\"}"},
    {"GET /api/tags ", "{\"models\":[{\"name\":\"" MODEL "\",\"model\":\"" MODEL "\"}]}"},
    {"GET /api/ps ", "{\"models\":[{\"name\":\"" MODEL "\",\"model\":\"" MODEL
                     "\",\"size\":1000,\"size_vram\":0}]}"},
    {"POST /api/show ", "{\"details\":{\"quantization_level\":\"unknown\"}}"},
    {"GET /v1/models ", "{\"object\":\"list\",\"data\":[{\"id\":\"" MODEL
                        "\",\"object\":\"model\",\"created\":1767225600,\"owned_by\":\"known\"}]}"},
    {"GET /health ", "{}"},
};

static bool is(const char *request, const char *line)
{
    return !strncmp(request, line, strlen(line));
}

static void serve(Connection *c, const char *request, const char *body)
{
    Buffer out = {0};
    if (is(request, "POST /api/generate "))
        return generate(c, OLLAMA, body);
    if (is(request, "POST /api/chat "))
        return generate(c, OLLAMA_CHAT, body);
    if (is(request, "POST /v1/completions "))
        return generate(c, COMPLETION, body);
    if (is(request, "POST /v1/chat/completions "))
        return generate(c, CHAT, body);
    for (size_t i = 0; i < sizeof FIXED / sizeof *FIXED; i++)
        if (is(request, FIXED[i].path))
            return answer_text(c, 200, FIXED[i].answer);
    if (is(request, "GET /seen "))
        describe(&out);
    else if (is(request, "GET /requests "))
        list_requests(&out);
    else if (is(request, "DELETE /seen "))
        forget();
    else
        return answer_text(c, 404, "{\"error\":\"not found\"}");
    answer(c, 200, "application/json", &out);
    free(out.data);
}

/* Serve one request that is whole; whether there was one. */
static bool next_request(Connection *c)
{
    if (c->busy || !c->in.size)
        return false;
    char *head_end = strstr(c->in.data, "\r\n\r\n");
    if (!head_end)
        return false;
    *head_end = 0;
    char *length = strcasestr(c->in.data, "\r\nContent-Length:");
    long body = length ? strtol(length + 17, NULL, 10) : 0;
    size_t head = head_end + 4 - c->in.data;
    if (body < 0 || head + body > c->in.size) {
        *head_end = '\r';
        c->closing = body < 0 || body > MAX_REQUEST;
        return false;
    }
    char *text = c->in.data + head, after = text[body];
    text[body] = 0;
    serve(c, c->in.data, text);
    text[body] = after;
    drop(&c->in, head + body);
    return true;
}

static void take_in(Connection *c)
{
    char data[65536];
    ssize_t size = recv(c->fd, data, sizeof data, 0);
    c->arrived = now();
    if (size > 0)
        add(&c->in, data, size);
    c->closing = size == 0 || (size < 0 && errno != EAGAIN) || c->in.size > 2 * MAX_REQUEST;
}

static void hang_up(Connection *c)
{
    if (c->busy) {
        seen.ended_early++;
        end(c);
    }
    close(c->fd);
    free(c->in.data);
    free(c->out.data);
    free(c);
}

/* --- the loop --- */

static int listen_on(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), yes = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t size = sizeof at;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&at, size) || listen(fd, 4096)) {
        perror("known_server: cannot listen");
        exit(1);
    }
    getsockname(fd, (struct sockaddr *)&at, &size);
    printf("listening on 127.0.0.1:%d\n", ntohs(at.sin_port));
    fflush(stdout);
    return fd;
}

static void accept_all(int listening)
{
    int fd, yes = 1;
    while ((fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        Connection *c = calloc(1, sizeof *c);
        if (!c)
            abort();
        c->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        watch(c, EPOLL_CTL_ADD, EPOLLIN);
        seen.connections++;
    }
}

static void set_timer(int timer)
{
    static ns set;
    ns due = heap_size ? heap[1]->due : 0;
    if (due == set)
        return;
    set = due;
    struct itimerspec when = {.it_value = {due / 1000000000, due % 1000000000}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static void happened(Connection *c, uint32_t events)
{
    if (events & EPOLLOUT) {
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
        flush(c);
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        take_in(c);
    while (!c->closing && next_request(c))
        ;
    if (c->closing)
        hang_up(c);
}

/* A chunk goes out when it is due, also in the midst of many requests that come at once. */
static void advance_due(void)
{
    ns until = now();
    while (heap_size && heap[1]->due <= until) {
        Connection *c = heap[1];
        advance(c, until);
        if (!c->busy)
            while (!c->closing && next_request(c))
                ;
        until = now();
    }
}

static void loop(int listening)
{
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    poll_fd = epoll_create1(0);
    struct epoll_event events[EVENTS], of_listening = {.events = EPOLLIN, .data.ptr = NULL},
                                       of_timer = {.events = EPOLLIN, .data.ptr = &timer};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, listening, &of_listening);
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, timer, &of_timer);
    for (;;) {
        set_timer(timer);
        int n = epoll_wait(poll_fd, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == NULL)
                accept_all(listening);
            else if (events[i].data.ptr != &timer)
                happened(events[i].data.ptr, events[i].events);
            advance_due();
        }
    }
}

static ns seconds(const char *text)
{
    return (ns)(strtod(text, NULL) * 1e9 + 0.5);
}

int main(int argc, char **argv)
{
    enum { PORT, TTFT, ITL, TOKENS, SLOTS, APART, DIES_OF };
    static const struct option options[] = {
        {"port", 1, 0, PORT},     {"ttft", 1, 0, TTFT},   {"itl", 1, 0, ITL}, {"tokens", 1, 0, TOKENS},
        {"slots", 1, 0, SLOTS}, {"apart", 0, 0, APART},
        {"dies-of", 1, 0, DIES_OF}, {0},
    };
    int port = 0, option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0)
        switch (option) {
        case PORT: port = atoi(optarg); break;
        case TTFT: pace.ttft = seconds(optarg); break;
        case ITL: pace.itl = seconds(optarg); break;
        case TOKENS: pace.tokens = atoi(optarg); break;
        case SLOTS: pace.slots = atoi(optarg); break;
        case APART: pace.apart = true; break;
        case DIES_OF: pace.fatal = optarg; break;
        default: return 2;
        }
    if (optind < argc)
        return fprintf(stderr, "known_server: what is %s?\n", argv[optind]), 2;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    prepare();
    forget();
    loop(listen_on(port));
}
