/* The devices of a benchmark: one epoll loop, thousands of sockets, so little work for each event that it is the server that
 * is measured and not its driver. Takes events, notes how old they are, acks as the SDK does (after ACK_EVERY events or
 * ACK_MS after the first), answers pings. It trusts its server to speak the protocol: ours, or that of a peer which is
 * measured beside it.
 *
 * usage: devices PORT ACK_EVERY ACK_MS CONNECTS_AT_ONCE [fleetwire|socket.io|channels]
 * standard input: one "device_id token" a line, then an empty line; prints {"welcomed":N,"all":true|false,"seconds":S}
 * then "report": prints what was counted since the last report; "count": how many events that are so far; "stop": ends.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 1 << 20, READY = 256, PER_ADDRESS = 4000, GIVE_UP_S = 300, STEPS = 2400, TOKEN_MAX = 4096 };

struct device {
    int fd, upgraded, welcomed, unacked, held;
    uint64_t seq, ack_due; /* 0: no timer runs */
    unsigned char *part;   /* of a frame that has not arrived whole */
    char *id, *token;
};

/* How the devices of a server speak. Those of peers have no numbers, so what they ack is a count. */
struct dialect {
    const char *name, *target; /* its argument: the device */
    const char *credential;    /* header lines; their argument: the token */
    const char *hail, *hello;   /* a text that begins so is answered so (its argument: device) before the welcome comes */
    const char *welcome;        /* a text that begins so; NULL: the upgrade itself */
    const char *event;          /* a text that begins so; the device's number of it follows if `numbered` */
    const char *notice;         /* a text that begins so is counted like an event, and neither numbered nor acked */
    const char *ack;            /* its argument: the number, or the count */
    const char *ping, *pong;    /* texts, where keepalive is not the WebSocket's own */
    int numbered;
};

static const struct dialect dialects[] = {
    {"fleetwire", "/v1/socket?device_id=%s&instance=00000000-0000-4000-8000-000000000000&attempt=1",
     "Sec-WebSocket-Protocol: fleetwire.v1\r\nAuthorization: Bearer %s\r\n", NULL, NULL, "{\"type\":\"welcome\"",
     "{\"type\":\"event\",\"seq\":", "{\"type\":\"notice\",", "{\"type\":\"ack\",\"seq\":%llu}", NULL, NULL, 1},
    {"socket.io", "/socket.io/?EIO=4&transport=websocket&device=%s", "", "0{", "40{\"device\":\"%s\"}", "40",
     "42[\"event\",", NULL, "42[\"ack\",{\"seq\":%llu}]", "2", "3", 0},
    {"channels", "/ws/%s", "", NULL, NULL, NULL, "{", NULL, "{\"type\":\"ack\",\"seq\":%llu}", NULL, NULL, 0},
};
static const struct dialect *says = dialects;

struct timer { struct device *device; uint64_t due; };

static struct device *devices;
static struct timer *timers; /* all of one length, so a ring in the order they were set */
static size_t count, welcomed, started, timer_first, timer_count, timer_room = 1 << 16;
static uint64_t events, acks, gaps, closes, refused, histogram[STEPS], samples, ack_ns;
static double oldest_ms;
static int port, ack_every, loop;
static unsigned char buffer[BUFFER];

static void die(const char *what) { perror(what); exit(1); }

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
}

/* Buckets 1 % wide, from a microsecond up. */
static void note_age(double ms) {
    int bucket = ms <= 0.001 ? 0 : (int)(log(ms / 0.001) / log(1.01) + 0.5);
    histogram[bucket < STEPS ? bucket : STEPS - 1]++;
    samples++;
    if (ms > oldest_ms) oldest_ms = ms;
}

static double percentile(double percent) {
    uint64_t wanted = (uint64_t)ceil(samples * percent / 100), seen = 0;
    for (int i = 0; i < STEPS; i++)
        if ((seen += histogram[i]) >= wanted && seen) { double ms = 0.001 * pow(1.01, i); return ms < oldest_ms ? ms : oldest_ms; }
    return 0;
}

static void write_frame(struct device *d, int opcode, const unsigned char *payload, size_t length) {
    static const unsigned char mask[4] = {0x3a, 0xc5, 0x71, 0x9e};
    unsigned char frame[131];
    frame[0] = 0x80 | opcode;
    frame[1] = 0x80 | length;
    memcpy(frame + 2, mask, 4);
    for (size_t i = 0; i < length; i++) frame[6 + i] = payload[i] ^ mask[i % 4];
    if (write(d->fd, frame, 6 + length) != (ssize_t)(6 + length)) fprintf(stderr, "%s: a write was not taken\n", d->id);
}

static void ack(struct device *d) {
    char text[64];
    d->ack_due = 0;
    if (!d->unacked) return;
    d->unacked = 0;
    acks++;
    write_frame(d, 1, (unsigned char *)text, sprintf(text, says->ack, (unsigned long long)d->seq));
}

static void start_timer(struct device *d, uint64_t now) {
    if (timer_count == timer_room) die("too many timers");
    d->ack_due = now + ack_ns;
    timers[(timer_first + timer_count++) % timer_room] = (struct timer){d, d->ack_due};
}

/* Milliseconds until the next ack is due, -1 for never. */
static int run_timers(void) {
    while (timer_count) {
        struct timer *t = &timers[timer_first];
        if (t->device->ack_due == t->due) {
            uint64_t now = now_ns();
            if (t->due > now) return (int)((t->due - now) / 1000000) + 1;
            ack(t->device);
        }
        timer_first = (timer_first + 1) % timer_room;
        timer_count--;
    }
    return -1;
}

static int begins(const unsigned char *text, size_t length, const char *with) {
    return with && length >= strlen(with) && !memcmp(text, with, strlen(with));
}

static void count_one(const unsigned char *text, size_t length, uint64_t now) {
    static const char sent[] = "\"sent_ns\":";
    const unsigned char *at = memmem(text, length, sent, sizeof sent - 1);
    events++;
    if (at) note_age((double)(int64_t)(now - strtoull((const char *)at + sizeof sent - 1, NULL, 10)) / 1e6);
}

static void on_event(struct device *d, const unsigned char *text, size_t length, uint64_t now) {
    uint64_t seq = says->numbered ? strtoull((const char *)text + strlen(says->event), NULL, 10) : d->seq + 1;
    if (seq != d->seq + 1) gaps++;
    if (seq > d->seq) d->seq = seq;
    count_one(text, length, now);
    if (++d->unacked >= ack_every) ack(d);
    else if (!d->ack_due) start_timer(d, now);
}

static void on_welcome(struct device *d, const unsigned char *text, size_t length) {
    const char *at = memmem(text, length, "\"position\":\"", 12), *colon = at ? strchr(at + 12, ':') : NULL;
    d->seq = colon ? strtoull(colon + 1, NULL, 10) : 0;
    d->welcomed = 1;
    welcomed++;
}

static void on_text(struct device *d, const unsigned char *text, size_t length, uint64_t now) {
    char hello[160];
    if (begins(text, length, says->event)) on_event(d, text, length, now);
    else if (begins(text, length, says->notice)) count_one(text, length, now);
    else if (!d->welcomed && begins(text, length, says->welcome)) on_welcome(d, text, length);
    else if (begins(text, length, says->hail)) write_frame(d, 1, (unsigned char *)hello, sprintf(hello, says->hello, d->id));
    else if (says->ping && length == 1 && *text == *says->ping) write_frame(d, 1, (unsigned char *)says->pong, 1);
}

static void leave(struct device *d) {
    if (d->welcomed) welcomed--;
    d->welcomed = d->upgraded = d->unacked = 0;
    d->ack_due = 0;
    close(d->fd);
    d->fd = -1;
    free(d->part);
    d->part = NULL;
    d->held = 0;
}

static void on_input(struct device *d) {
    memcpy(buffer, d->part ? d->part : buffer, d->held);
    ssize_t got = read(d->fd, buffer + d->held, BUFFER - 1 - d->held);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) { leave(d); return; }
    size_t have = d->held + got, at = 0;
    buffer[have] = 0;
    if (!d->upgraded) {
        unsigned char *end = memmem(buffer, have, "\r\n\r\n", 4);
        if (end && memcmp(buffer + 9, "101", 3)) { refused++; leave(d); return; }
        if (end) { d->upgraded = 1; at = end + 4 - buffer; }
        if (end && !says->welcome) on_welcome(d, buffer, 0);
    }
    uint64_t now = now_ns();
    while (d->upgraded && have - at >= 2) {
        size_t length = buffer[at + 1] & 127, head = length < 126 ? 2 : length == 126 ? 4 : 10;
        if (have - at < head) break;
        if (head > 2) { length = 0; for (size_t i = 2; i < head; i++) length = length << 8 | buffer[at + i]; }
        if (length > BUFFER / 2) { fprintf(stderr, "%s: a frame of %zu bytes\n", d->id, length); leave(d); return; }
        if (have - at < head + length) break;
        int opcode = buffer[at] & 15;
        if (opcode == 1) on_text(d, buffer + at + head, length, now);
        else if (opcode == 9 && length <= 125) write_frame(d, 10, buffer + at + head, length);
        else if (opcode == 8) { closes++; write_frame(d, 8, buffer + at + head, length < 2 ? 0 : 2); }
        at += head + length;
    }
    d->held = have - at;
    if (d->held) {
        d->part = realloc(d->part, d->held);
        memcpy(d->part, buffer + at, d->held);
    } else if (d->part) {
        free(d->part);
        d->part = NULL;
    }
}

static void start(struct device *d, size_t number) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    /* One pair of addresses has only some 28,000 ports, and finding a free one becomes slow long before. */
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + number / PER_ADDRESS)};
    int one = 1;
    static char target[256], credential[TOKEN_MAX + 256], request[TOKEN_MAX + 1024];
    d->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (d->fd < 0) die("socket");
    setsockopt(d->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(d->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(d->fd, (struct sockaddr *)&from, sizeof from)) die("bind");
    if (connect(d->fd, (struct sockaddr *)&to, sizeof to)) die("connect");
    snprintf(target, sizeof target, says->target, d->id);
    snprintf(credential, sizeof credential, says->credential, d->token);
    int length = snprintf(request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n%s\r\n", target, port, credential);
    if (length >= (int)sizeof request || write(d->fd, request, length) != length) die("request");
    fcntl(d->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = d};
    epoll_ctl(loop, EPOLL_CTL_ADD, d->fd, &event);
}

static void report(void) {
    struct rusage used;
    static double before;
    getrusage(RUSAGE_SELF, &used);
    double cpu = used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    printf("{\"events\":%llu,\"acks\":%llu,\"cpu_s\":%.3f,\"connected\":%zu,\"gaps\":%llu,\"closes\":%llu,\"latency\":{\"count\":%llu,"
           "\"p50_ms\":%.3f,\"p90_ms\":%.3f,\"p99_ms\":%.3f,\"p99.9_ms\":%.3f,\"max_ms\":%.3f}}\n",
           (unsigned long long)events, (unsigned long long)acks, cpu - before, welcomed, (unsigned long long)gaps,
           (unsigned long long)closes, (unsigned long long)samples, percentile(50), percentile(90), percentile(99),
           percentile(99.9), oldest_ms);
    fflush(stdout);
    before = cpu;
    events = acks = gaps = closes = samples = 0;
    oldest_ms = 0;
    memset(histogram, 0, sizeof histogram);
}

static void read_devices(void) {
    static char line[TOKEN_MAX + 128];
    size_t room = 0;
    while (fgets(line, sizeof line, stdin) && *line != '\n') {
        char *token = strchr(line, ' ');
        if (!token) die("a line without a token");
        *token++ = 0;
        token[strcspn(token, "\n")] = 0;
        if (count == room) devices = realloc(devices, (room = room ? 2 * room : 1024) * sizeof *devices);
        devices[count++] = (struct device){.fd = -1, .id = strdup(line), .token = strdup(token)};
    }
}

int main(int argc, char **argv) {
    for (size_t i = 0; argc == 6 && i < sizeof dialects / sizeof *dialects; i++)
        if (!strcmp(dialects[i].name, argv[5])) says = &dialects[i];
    if (argc < 5 || argc > 6 || (argc == 6 && strcmp(says->name, argv[5]))) {
        fprintf(stderr, "usage: devices PORT ACK_EVERY ACK_MS CONNECTS_AT_ONCE [DIALECT]\n");
        return 2;
    }
    port = atoi(argv[1]);
    ack_every = atoi(argv[2]);
    ack_ns = (uint64_t)atoi(argv[3]) * 1000000u;
    size_t at_once = atoi(argv[4]);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    read_devices();
    while (timer_room < 4 * count) timer_room *= 2;
    timers = calloc(timer_room, sizeof *timers);
    loop = epoll_create1(0);
    struct epoll_event ready[READY], orders = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(loop, EPOLL_CTL_ADD, STDIN_FILENO, &orders);
    uint64_t began = now_ns();
    int said = 0;
    for (;;) {
        while (started < count && started < welcomed + refused + at_once) { start(&devices[started], started); started++; }
        int over = now_ns() - began > (uint64_t)GIVE_UP_S * 1000000000u;
        if (!said && (welcomed == count || refused || over)) {
            said = 1;
            printf("{\"welcomed\":%zu,\"all\":%s,\"seconds\":%.3f}\n", welcomed, welcomed == count ? "true" : "false",
                   (double)(now_ns() - began) / 1e9);
            fflush(stdout);
        }
        int wait = run_timers();
        int got = epoll_wait(loop, ready, READY, said ? wait : 100);
        for (int i = 0; i < got; i++) {
            struct device *d = ready[i].data.ptr;
            if (d) { if (d->fd >= 0) on_input(d); continue; }
            char order[64];
            ssize_t length = read(STDIN_FILENO, order, sizeof order);
            if (length <= 0 || order[0] == 's') return 0;
            if (order[0] == 'c') { printf("{\"events\":%llu}\n", (unsigned long long)events); fflush(stdout); }
            else report();
        }
    }
}
