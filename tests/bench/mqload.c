/* A load for the MQTT rows that costs the processors next to nothing: feeds a program and reads what it makes.
 *
 *     mqload PORT SOURCE SINK BETWEEN PAYLOADS MADE
 *
 * PAYLOADS and MADE are files of records: a length (uint32, as this machine has it) and so many bytes; in MADE a
 * double stands before each length, the seconds of CLOCK_MONOTONIC when the record had come. QoS 1 both ways: all of
 * PAYLOADS are published to SOURCE at full speed, with at most BETWEEN of them between SOURCE and SINK; what comes
 * from SINK is acknowledged and kept. Prints "ready" when it is subscribed, and begins when a line comes on stdin.
 * MADE is written when as many messages have come as were fed. Exit code 1, with words: they did not.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNACK = 0x20, PUBLISH = 0x30, PUBACK = 0x40, SUBACK = 0x90, CHUNK_BYTES = 1 << 18, SILENCE_MS = 60000 };

typedef struct {
    uint8_t *data;
    size_t begin, end, room;
} Buffer;

static int sock;
static Buffer in, out, made, fed;
static size_t acknowledged, come;

static void fail(const char *words) {
    fprintf(stderr, "mqload: %s (%zu acknowledged, %zu came): %s\n", words, acknowledged, come, strerror(errno));
    exit(1);
}

static void append(Buffer *buffer, const void *data, size_t length) {
    if (buffer->begin == buffer->end || buffer->begin > CHUNK_BYTES) {
        memmove(buffer->data, buffer->data + buffer->begin, buffer->end - buffer->begin);
        buffer->end -= buffer->begin;
        buffer->begin = 0;
    }
    if (buffer->end + length > buffer->room) {
        buffer->room = 2 * (buffer->end + length);
        buffer->data = realloc(buffer->data, buffer->room);
        if (!buffer->data)
            fail("no memory");
    }
    memcpy(buffer->data + buffer->end, data, length);
    buffer->end += length;
}

static void append_byte(Buffer *buffer, uint8_t byte) { append(buffer, &byte, 1); }

static void append_16(Buffer *buffer, uint16_t number) {
    append_byte(buffer, number >> 8);
    append_byte(buffer, number & 0xff);
}

static void append_text(Buffer *buffer, const char *text) {
    append_16(buffer, strlen(text));
    append(buffer, text, strlen(text));
}

/* First byte and length of a packet. */
static void append_head(uint8_t first, size_t length) {
    append_byte(&out, first);
    do {
        append_byte(&out, (length & 127) | (length > 127 ? 128 : 0));
        length >>= 7;
    } while (length);
}

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static void dial(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int yes = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sock = socket(AF_INET, SOCK_STREAM, 0);
    if (sock < 0 || connect(sock, (struct sockaddr *)&address, sizeof address))
        fail("no connection");
    setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    fcntl(sock, F_SETFL, O_NONBLOCK);
}

/* Send what there is, and wait for what comes; a broker that says nothing for a minute is given up. */
static void exchange(void) {
    struct pollfd ready = {.fd = sock, .events = POLLIN | (out.begin < out.end ? POLLOUT : 0)};
    if (poll(&ready, 1, SILENCE_MS) <= 0)
        fail("silence");
    if (ready.revents & POLLOUT) {
        ssize_t sent = send(sock, out.data + out.begin, out.end - out.begin, MSG_NOSIGNAL);
        if (sent > 0)
            out.begin += sent;
        else if (errno != EAGAIN)
            fail("send");
    }
    if (ready.revents & (POLLIN | POLLHUP)) {
        static uint8_t chunk[CHUNK_BYTES];
        ssize_t got = recv(sock, chunk, sizeof chunk, 0);
        if (got > 0)
            append(&in, chunk, got);
        else if (got == 0 || errno != EAGAIN)
            fail("the broker hung up");
    }
}

/* The next whole packet: its first byte, 0 when there is none; body and length by reference. */
static uint8_t next_packet(uint8_t **body, size_t *length) {
    size_t at = in.begin + 1, shift = 0;
    *length = 0;
    while (at < in.end) {
        uint8_t byte = in.data[at++];
        *length |= (size_t)(byte & 127) << shift;
        shift += 7;
        if (byte < 128) {
            if (at + *length > in.end)
                return 0;
            uint8_t first = in.data[in.begin];
            *body = in.data + at;
            in.begin = at + *length;
            return first;
        }
    }
    return 0;
}

static void expect(uint8_t kind) {
    uint8_t *body, first;
    size_t length;
    while (!(first = next_packet(&body, &length)))
        exchange();
    if ((first & 0xf0) != kind)
        fail("another answer was expected");
}

static void open_session(const char *sink) {
    append_head(0x10, 10 + 2 + strlen("mqload"));
    append_text(&out, "MQTT");
    append(&out, "\x04\x02\x00\x00", 4);
    append_text(&out, "mqload");
    expect(CONNACK);
    append_head(0x82, 2 + 2 + strlen(sink) + 1);
    append_16(&out, 1);
    append_text(&out, sink);
    append_byte(&out, 1);
    expect(SUBACK);
}

/* The record at `place` of what is fed goes out; returns the place of the next. */
static size_t publish(const char *source, size_t place, size_t number) {
    uint32_t length;
    memcpy(&length, fed.data + place, sizeof length);
    append_head(0x32, 2 + strlen(source) + 2 + length);
    append_text(&out, source);
    append_16(&out, number % 65535 + 1);
    append(&out, fed.data + place + sizeof length, length);
    return place + sizeof length + length;
}

static void keep(const uint8_t *body, size_t length, double at_s) {
    size_t skip = 2 + (body[0] << 8 | body[1]);
    uint32_t size = length - skip - 2;
    append_head(PUBACK, 2);
    append(&out, body + skip, 2);
    append(&made, &at_s, sizeof at_s);
    append(&made, &size, sizeof size);
    append(&made, body + skip + 2, size);
    come++;
}

static void take_in(void) {
    uint8_t *body, first;
    size_t length;
    double at_s = now_s();
    while ((first = next_packet(&body, &length))) {
        if ((first & 0xf0) == PUBACK)
            acknowledged++;
        else if ((first & 0xf6) == (PUBLISH | 2))
            keep(body, length, at_s);
    }
}

static size_t count_fed(void) {
    size_t count = 0, place = 0;
    for (uint32_t length; place < fed.end; place += sizeof length + length, count++)
        memcpy(&length, fed.data + place, sizeof length);
    return count;
}

static void read_file(const char *path) {
    static uint8_t chunk[CHUNK_BYTES];
    FILE *file = fopen(path, "rb");
    if (!file)
        fail(path);
    for (size_t got; (got = fread(chunk, 1, sizeof chunk, file));)
        append(&fed, chunk, got);
    fclose(file);
}

int main(int count, char **words) {
    if (count != 7)
        fail("PORT SOURCE SINK BETWEEN PAYLOADS MADE");
    size_t sent = 0, place = 0, between = strtoul(words[4], NULL, 10);
    read_file(words[5]);
    size_t total = count_fed();
    dial(atoi(words[1]));
    open_session(words[3]);
    puts("ready");
    fflush(stdout);
    if (getchar() == EOF)
        return 1;
    while (come < total) {
        for (; sent < total && sent < come + between; sent++)
            place = publish(words[2], place, sent);
        exchange();
        take_in();
    }
    FILE *file = fopen(words[6], "wb");
    if (!file || fwrite(made.data, 1, made.end, file) != made.end || fclose(file))
        fail(words[6]);
    return 0;
}
