/* The floor: a relay that only moves bytes. One epoll loop takes slot messages from Redis and writes each to the socket of
 * its device as a WebSocket text frame, one write per event, and each notice to all; it reads what devices send, unmasks it
 * and counts acks. It numbers, stores, checks and replays nothing, so a hub cannot cost less than this, and the ratio to it says what the rest costs.
 *
 * usage: relay LISTEN_PORT REDIS_PORT REDIS_PASSWORD     prints "ready" when it listens and is subscribed
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SLOTS = 1024, HEADER = 14, BUCKETS = 65536, INBOUND = 4096, REDIS_BUFFER = 1 << 20, FRAME_MAX = 1 << 19, MAX_FDS = 20000 };

struct peer {
    int fd, open, used;
    char device[65];
    struct peer *next; /* in its bucket */
    unsigned char in[INBOUND];
};

static struct peer *peers[MAX_FDS], *buckets[BUCKETS];
static unsigned long long acks, delivered;

static void die(const char *what) { perror(what); exit(1); }

static unsigned bucket_of(const char *id, size_t length) {
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < length; i++) h = (h ^ (unsigned char)id[i]) * 16777619u;
    return h % BUCKETS;
}

/* SHA-1 and base64, only for Sec-WebSocket-Accept (RFC 6455, section 4.2.2). */
static uint32_t rotate(uint32_t v, int n) { return v << n | v >> (32 - n); }

static void sha1(const unsigned char *text, size_t length, unsigned char out[20]) {
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    unsigned char padded[256] = {0};
    size_t total = ((length + 8) / 64 + 1) * 64;
    memcpy(padded, text, length);
    padded[length] = 0x80;
    for (int i = 0; i < 8; i++) padded[total - 1 - i] = (unsigned char)((uint64_t)length * 8 >> (8 * i));
    for (size_t block = 0; block < total; block += 64) {
        uint32_t w[80];
        for (int i = 0; i < 16; i++)
            w[i] = (uint32_t)padded[block + 4 * i] << 24 | padded[block + 4 * i + 1] << 16 | padded[block + 4 * i + 2] << 8 | padded[block + 4 * i + 3];
        for (int i = 16; i < 80; i++) w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 80; i++) {
            uint32_t f = i < 20 ? (b & c) | (~b & d) : i < 40 || i >= 60 ? b ^ c ^ d : (b & c) | (b & d) | (c & d);
            uint32_t k = i < 20 ? 0x5A827999 : i < 40 ? 0x6ED9EBA1 : i < 60 ? 0x8F1BBCDC : 0xCA62C1D6;
            uint32_t t = rotate(a, 5) + f + e + k + w[i];
            e = d; d = c; c = rotate(b, 30); b = a; a = t;
        }
        h[0] += a; h[1] += b; h[2] += c; h[3] += d; h[4] += e;
    }
    for (int i = 0; i < 20; i++) out[i] = (unsigned char)(h[i / 4] >> (24 - 8 * (i % 4)));
}

static void base64(const unsigned char *in, int length, char *out) {
    static const char table[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int i = 0; i < length; i += 3) {
        uint32_t v = (uint32_t)in[i] << 16 | (i + 1 < length ? in[i + 1] << 8 : 0) | (i + 2 < length ? in[i + 2] : 0);
        *out++ = table[v >> 18]; *out++ = table[v >> 12 & 63];
        *out++ = i + 1 < length ? table[v >> 6 & 63] : '='; *out++ = i + 2 < length ? table[v & 63] : '=';
    }
    *out = 0;
}

static size_t frame_header(unsigned char *out, size_t length) {
    out[0] = 0x81;
    if (length < 126) { out[1] = (unsigned char)length; return 2; }
    if (length < 65536) { out[1] = 126; out[2] = length >> 8; out[3] = length & 255; return 4; }
    out[1] = 127;
    for (int i = 0; i < 8; i++) out[2 + i] = (unsigned char)((uint64_t)length >> (56 - 8 * i));
    return 10;
}

static void send_text(struct peer *peer, const char *prefix, size_t prefix_length, const char *body, size_t length) {
    static unsigned char frame[FRAME_MAX];
    size_t text = prefix_length + length + 1, at = frame_header(frame, text);
    if (at + text > sizeof frame) return;
    memcpy(frame + at, prefix, prefix_length);
    memcpy(frame + at + prefix_length, body, length);
    frame[at + text - 1] = '}';
    if (write(peer->fd, frame, at + text) == (ssize_t)(at + text)) delivered++;
}

static void drop(struct peer *peer) {
    for (struct peer **p = &buckets[bucket_of(peer->device, strlen(peer->device))]; *p; p = &(*p)->next)
        if (*p == peer) { *p = peer->next; break; }
    peers[peer->fd] = NULL;
    close(peer->fd);
    free(peer);
}

static int upgrade(struct peer *peer) {
    char *end = memmem(peer->in, peer->used, "\r\n\r\n", 4);
    if (!end) return peer->used < INBOUND;
    peer->in[peer->used < INBOUND ? peer->used : INBOUND - 1] = 0;
    char *id = strstr((char *)peer->in, "device_id="), *key = strcasestr((char *)peer->in, "sec-websocket-key: ");
    if (!id || !key) return 0;
    sscanf(id + 10, "%64[a-z0-9._-]", peer->device);
    char joined[128];
    sscanf(key + 19, "%60s", joined);
    strcat(joined, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    unsigned char digest[20];
    char accept[32], answer[512];
    sha1((unsigned char *)joined, strlen(joined), digest);
    base64(digest, 20, accept);
    int length = snprintf(answer, sizeof answer,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: fleetwire.v1\r\n\r\n", accept);
    if (write(peer->fd, answer, length) != length) return 0;
    static const char welcome[] = "{\"type\":\"welcome\",\"session\":\"-\",\"hub\":\"relay\",\"position\":\"1:0\",\"acked\":0,\"head\":0,"
        "\"heartbeat_s\":25,\"window\":256,\"ack_every\":16,\"ack_ms\":500,\"jitter_s\":1";
    unsigned b = bucket_of(peer->device, strlen(peer->device));
    peer->open = 1;
    peer->next = buckets[b];
    buckets[b] = peer;
    send_text(peer, welcome, sizeof welcome - 1, "", 0);
    delivered--;
    int used = (int)((unsigned char *)end + 4 - peer->in);
    memmove(peer->in, peer->in + used, peer->used - used);
    peer->used -= used;
    return 1;
}

static int device_input(struct peer *peer) {
    ssize_t got = read(peer->fd, peer->in + peer->used, INBOUND - peer->used);
    if (got <= 0) return got < 0 && errno == EAGAIN;
    peer->used += (int)got;
    if (!peer->open) return upgrade(peer);
    int at = 0;
    while (peer->used - at >= 6) {
        int length = peer->in[at + 1] & 127;
        if (length > 125) return 0; /* acks and pongs are short */
        if (peer->used - at < 6 + length) break;
        for (int i = 0; i < length; i++) peer->in[at + 6 + i] ^= peer->in[at + 2 + i % 4];
        if ((peer->in[at] & 15) == 8) return 0;
        if ((peer->in[at] & 15) == 1 && length >= 20 && !memcmp(peer->in + at + 6, "{\"type\":\"ack\"", 13)) acks++;
        at += 6 + length;
    }
    memmove(peer->in, peer->in + at, peer->used - at);
    peer->used -= at;
    return 1;
}

/* A notice: no id, a class (here always empty), NUL, the text. */
static void to_all(const unsigned char *body, size_t length) {
    static unsigned char frame[FRAME_MAX];
    const unsigned char *nul = memchr(body, 0, length);
    if (!nul || (size_t)(length + 10) > sizeof frame) return;
    size_t text = body + length - nul - 1, at = frame_header(frame, text);
    memcpy(frame + at, nul + 1, text);
    for (int fd = 0; fd < MAX_FDS; fd++)
        if (peers[fd] && peers[fd]->open && write(fd, frame, at + text) == (ssize_t)(at + text)) delivered++;
}

static void relay(const unsigned char *message, size_t length) {
    if (length >= HEADER && message[0] == 0x14) to_all(message + HEADER, length - HEADER);
    if (length < HEADER || message[0] != 0x11) return;
    size_t id_length = message[1];
    uint64_t seq = 0;
    if (HEADER + id_length > length || id_length > 64) return;
    for (int i = 0; i < 8; i++) seq = seq << 8 | message[6 + i];
    const char *id = (const char *)message + HEADER;
    for (struct peer *p = buckets[bucket_of(id, id_length)]; p; p = p->next)
        if (strlen(p->device) == id_length && !memcmp(p->device, id, id_length)) {
            char prefix[64];
            int n = snprintf(prefix, sizeof prefix, "{\"type\":\"event\",\"seq\":%llu,\"event\":", (unsigned long long)seq);
            send_text(p, prefix, n, id + id_length, length - HEADER - id_length);
            return;
        }
}

/* Pushes are *3 $8 smessage $n channel $m payload. Anything else is skipped line by line. Returns bytes used. */
static size_t redis_input(const unsigned char *data, size_t have) {
    size_t at = 0;
    for (;;) {
        static const char mark[] = "*3\r\n$8\r\nsmessage\r\n$";
        const unsigned char *line = memchr(data + at, '\n', have - at);
        if (!line) return at;
        if (have - at < sizeof mark - 1) return at;
        if (memcmp(data + at, mark, sizeof mark - 1)) { at = line - data + 1; continue; }
        size_t p = at + sizeof mark - 1;
        unsigned long n = 0, m = 0;
        while (p < have && data[p] >= '0' && data[p] <= '9') n = n * 10 + data[p++] - '0';
        p += 2 + n + 2 + 1; /* newline, channel, newline, dollar */
        while (p < have && data[p] >= '0' && data[p] <= '9') m = m * 10 + data[p++] - '0';
        p += 2;
        if (p + m + 2 > have) return at;
        relay(data + p, m);
        at = p + m + 2;
    }
}

static int connect_redis(int port, const char *password) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    char command[256];
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) die("redis");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (*password) {
        int n = snprintf(command, sizeof command, "*2\r\n$4\r\nAUTH\r\n$%zu\r\n%s\r\n", strlen(password), password);
        if (write(fd, command, n) != n) die("auth");
    }
    for (int slot = 0; slot <= SLOTS; slot++) {
        char channel[32];
        int c = snprintf(channel, sizeof channel, slot < SLOTS ? "fw:{s%d}" : "fw:{s0}:notices", slot);
        int n = snprintf(command, sizeof command, "*2\r\n$10\r\nSSUBSCRIBE\r\n$%d\r\n%s\r\n", c, channel);
        if (write(fd, command, n) != n) die("subscribe");
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

int main(int argc, char **argv) {
    if (argc != 4) { fprintf(stderr, "usage: relay LISTEN_PORT REDIS_PORT REDIS_PASSWORD\n"); return 2; }
    struct rlimit files = {MAX_FDS, MAX_FDS};
    setrlimit(RLIMIT_NOFILE, &files);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1, loop = epoll_create1(0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) die("listen");
    int redis = connect_redis(atoi(argv[2]), argv[3]);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, ready[256];
    epoll_ctl(loop, EPOLL_CTL_ADD, listener, &event);
    event.data.fd = redis;
    epoll_ctl(loop, EPOLL_CTL_ADD, redis, &event);
    static unsigned char buffer[REDIS_BUFFER];
    size_t have = 0;
    puts("ready");
    fflush(stdout);
    for (;;) {
        int count = epoll_wait(loop, ready, 256, -1);
        for (int i = 0; i < count; i++) {
            int fd = ready[i].data.fd;
            if (fd == listener) {
                for (int client; (client = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
                    if (client >= MAX_FDS) { close(client); continue; }
                    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    peers[client] = calloc(1, sizeof(struct peer));
                    peers[client]->fd = client;
                    event.data.fd = client;
                    epoll_ctl(loop, EPOLL_CTL_ADD, client, &event);
                }
            } else if (fd == redis) {
                ssize_t got = read(redis, buffer + have, sizeof buffer - have);
                if (got == 0 || (got < 0 && errno != EAGAIN)) { fprintf(stderr, "redis is gone\n"); return 1; }
                if (got > 0) {
                    have += got;
                    size_t used = redis_input(buffer, have);
                    memmove(buffer, buffer + used, have - used);
                    have -= used;
                    if (have == sizeof buffer) { fprintf(stderr, "message too large\n"); return 1; }
                }
            } else if (peers[fd] && !device_input(peers[fd])) {
                drop(peers[fd]);
            }
        }
    }
}
