// SPDX-License-Identifier: GPL-2.0
/* A client of luod: see luo_client.h, and Documentation/luod-protocol.rst for the protocol. */
#include "luo_client.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static long long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* Bounds connect() and send(). */
static int limit_sending(struct luo *luo)
{
	struct timeval limit = {
		.tv_sec = luo->timeout_ms / 1000,
		.tv_usec = luo->timeout_ms % 1000 * 1000,
	};

	return setsockopt(luo->socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

int luo_connect(struct luo *luo, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int result;

	memset(luo, 0, sizeof(*luo));
	luo->socket = -1;
	luo->timeout_ms = 30000;
	if (strlen(path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(address.sun_path, path);
	luo->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (luo->socket < 0)
		return -1;
	result = limit_sending(luo);
	if (!result)
		do {
			result = connect(luo->socket, (struct sockaddr *)&address, sizeof(address));
		} while (result && errno == EINTR);
	if (!result)
		return 0;
	luo_close(luo);
	return -1;
}

void luo_close(struct luo *luo)
{
	int error = errno, at;

	if (luo->socket >= 0)
		close(luo->socket);
	for (at = 0; at < luo->fd_count; at++)
		close(luo->fds[at]);
	for (at = 0; at < luo->event_count; at++)
		if (luo->events[at].session >= 0)
			close(luo->events[at].session);
	luo->socket = -1;
	luo->fd_count = luo->event_count = 0;
	errno = error;
}

/* Waits until there is something to read, or until then (-1: always): 1, 0, -1. */
static int readable(struct luo *luo, long long until)
{
	struct pollfd polled = { .fd = luo->socket, .events = POLLIN };
	int result;

	do {
		long long left = until < 0 ? -1 : until - now_ms();

		if (until >= 0 && left < 0)
			left = 0;
		if (left > 1000000)
			left = 1000000;
		result = poll(&polled, 1, (int)left);
		/* A long wait is made of several. */
		if (!result && until >= 0 && now_ms() < until)
			result = -1, errno = EINTR;
	} while (result < 0 && errno == EINTR);
	return result;
}

static int take_fds(struct luo *luo, struct msghdr *message)
{
	struct cmsghdr *control;

	for (control = CMSG_FIRSTHDR(message); control; control = CMSG_NXTHDR(message, control)) {
		if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS)
			continue;
		if (luo->fd_count == (int)(sizeof(luo->fds) / sizeof(luo->fds[0]))) {
			int fd;

			memcpy(&fd, CMSG_DATA(control), sizeof(fd));
			close(fd);
			errno = EMSGSIZE;
			return -1;
		}
		memcpy(&luo->fds[luo->fd_count++], CMSG_DATA(control), sizeof(int));
	}
	return 0;
}

/* The next line, ended by a NUL, in *line: 1; 0 if it did not come until then; -1. */
static int next_line(struct luo *luo, long long until, char **line)
{
	char control[CMSG_SPACE(sizeof(int))], *end;

	memmove(luo->line, luo->line + luo->next, luo->used - luo->next);
	luo->used -= luo->next;
	luo->next = 0;
	while (!(end = memchr(luo->line, '\n', luo->used))) {
		struct iovec io = { luo->line + luo->used, sizeof(luo->line) - luo->used };
		struct msghdr message = { .msg_iov = &io, .msg_iovlen = 1,
			.msg_control = control, .msg_controllen = sizeof(control) };
		ssize_t got;
		int ready;

		if (!io.iov_len) {
			errno = EMSGSIZE;
			return -1;
		}
		ready = readable(luo, until);
		if (ready <= 0)
			return ready;
		got = recvmsg(luo->socket, &message, MSG_CMSG_CLOEXEC);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			errno = got ? errno : ECONNRESET;
			return -1;
		}
		if (take_fds(luo, &message))
			return -1;
		luo->used += got;
	}
	*end = 0;
	luo->next = end + 1 - luo->line;
	*line = luo->line;
	return 1;
}

/* Text in a line of JSON is escaped, so a key with its quotes can only be a key. */
static const char *value(const char *line, const char *key)
{
	const char *found = strstr(line, key);

	return found ? found + strlen(key) : NULL;
}

static int is(const char *line, const char *type)
{
	const char *found = value(line, "\"type\":\"");
	size_t length = strlen(type);

	return found && !strncmp(found, type, length) && found[length] == '"';
}

/*
 * A descriptor comes with the first byte of its line, so they are in the order of the lines that
 * have one.
 */
static int take_fd(struct luo *luo)
{
	int fd;

	if (!luo->fd_count)
		return -1;
	fd = luo->fds[0];
	luo->fd_count--;
	memmove(luo->fds, luo->fds + 1, luo->fd_count * sizeof(luo->fds[0]));
	return fd;
}

/* Reads what luod wants: 1; 0 if the line is something else; -1. */
static int event_of(struct luo *luo, const char *line, struct luo_message *message)
{
	const char *found;
	size_t length;

	memset(message, 0, sizeof(*message));
	message->session = -1;
	if (is(line, "START_PRESERVATION"))
		message->event = LUO_START;
	else if (is(line, "ABORT"))
		message->event = LUO_ABORT;
	else if (is(line, "STOP"))
		message->event = LUO_STOP;
	else if (is(line, "CHECK"))
		message->event = LUO_CHECK;
	else
		return 0;
	found = value(line, "\"id\":\"");
	if (found) {
		length = strcspn(found, "\"");
		if (length > LUO_ID_MAX) {
			errno = EPROTO;
			return -1;
		}
		memcpy(message->id, found, length);
	}
	found = value(line, "\"deadline_ms\":");
	if (found)
		message->deadline_ms = strtoul(found, NULL, 10);
	if (message->event == LUO_START) {
		message->session = take_fd(luo);
		if (message->session < 0) {
			errno = EPROTO;
			return -1;
		}
	}
	return 1;
}

static int refused(struct luo *luo, const char *line)
{
	static const struct { const char *code; int error; } codes[] = {
		{ "nothing-to-claim", ENOENT }, { "not-permitted", EPERM }, { "in-use", EBUSY },
		{ "damaged", EBADMSG }, { "wrong-state", ESTALE }, { "too-many", EAGAIN }, { "device", EIO },
	};
	const char *code = value(line, "\"code\":\""), *text = value(line, "\"message\":\"");
	size_t at, length = 0;

	if (text) {
		while (text[length] && text[length] != '"')
			length += text[length] == '\\' && text[length + 1] ? 2 : 1;
		snprintf(luo->error, sizeof(luo->error), "%.*s", (int)(length < 255 ? length : 255), text);
	}
	errno = EPROTO;
	for (at = 0; code && at < sizeof(codes) / sizeof(codes[0]); at++)
		if (!strncmp(code, codes[at].code, strlen(codes[at].code)))
			errno = codes[at].error;
	return -1;
}

/* One line of JSON, made piece by piece. */
struct text {
	char bytes[2048];
	size_t used;
};

static void add(struct text *text, const char *piece)
{
	size_t length = strlen(piece);

	/* What does not fit makes the line too long to be sent. */
	if (text->used + length < sizeof(text->bytes))
		memcpy(text->bytes + text->used, piece, length);
	text->used += length;
}

/* A text in quotes; of a longer one, the beginning. */
static void add_string(struct text *text, const char *string)
{
	size_t count;

	add(text, "\"");
	for (count = 0; string[count] && count < 200; count++) {
		char piece[8];
		unsigned char byte = string[count];

		if (byte < ' ' || byte == '"' || byte == '\\')
			snprintf(piece, sizeof(piece), "\\u%04x", byte);
		else
			snprintf(piece, sizeof(piece), "%c", byte);
		add(text, piece);
	}
	/* Not in the middle of a character. */
	while (string[count] && ((unsigned char)string[count] & 0xc0) == 0x80) {
		char piece[2] = { string[count++], 0 };

		add(text, piece);
	}
	add(text, "\"");
}

static void begin(struct text *text, const char *type, const char *id)
{
	text->used = 0;
	add(text, "{\"version\":1,\"type\":\"");
	add(text, type);
	add(text, "\",\"id\":");
	add_string(text, id);
}

static int say(struct luo *luo, struct text *text)
{
	size_t sent = 0;

	luo->error[0] = 0;
	add(text, "}\n");
	if (text->used >= sizeof(text->bytes)) {
		errno = EMSGSIZE;
		return -1;
	}
	if (limit_sending(luo))
		return -1;
	while (sent < text->used) {
		ssize_t count = send(luo->socket, text->bytes + sent, text->used - sent,
				     MSG_NOSIGNAL);

		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0) {
			errno = errno == EAGAIN ? ETIMEDOUT : errno;
			return -1;
		}
		sent += count;
	}
	return 0;
}

/* Says something, and waits for the answer of this type; what luod wants meanwhile is kept. */
static int ask(struct luo *luo, struct text *text, const char *answer)
{
	long long until = now_ms() + luo->timeout_ms;
	char *line;
	int got;

	if (say(luo, text))
		return -1;
	while ((got = next_line(luo, until, &line)) > 0) {
		struct luo_message message;

		if (is(line, answer))
			return 0;
		if (is(line, "ERROR"))
			return refused(luo, line);
		got = event_of(luo, line, &message);
		if (got < 0)
			return -1;
		if (!got) {
			errno = EPROTO;
			return -1;
		}
		if (luo->event_count == (int)(sizeof(luo->events) / sizeof(luo->events[0]))) {
			if (message.session >= 0)
				close(message.session);
			errno = ENOBUFS;
			return -1;
		}
		luo->events[luo->event_count++] = message;
	}
	if (!got) {
		/* The answer may come yet, and must not be taken for another one's. */
		shutdown(luo->socket, SHUT_RDWR);
		errno = ETIMEDOUT;
	}
	return -1;
}

static int ask_plainly(struct luo *luo, const char *what, const char *id, const char *answer)
{
	struct text text;

	begin(&text, what, id);
	return ask(luo, &text, answer);
}

int luo_subscribe(struct luo *luo, const char *id)
{
	return ask_plainly(luo, "SUBSCRIBE", id, "SUBSCRIBED");
}

int luo_subscribe_with(struct luo *luo, const char *id, unsigned int wish, int order)
{
	struct text text;
	char number[32];

	begin(&text, "SUBSCRIBE", id);
	if (wish & LUO_REQUIRED)
		add(&text, ",\"required\":true");
	if (wish & LUO_STOPS)
		add(&text, ",\"stops\":true");
	if (wish & LUO_CHECKS)
		add(&text, ",\"checks\":true");
	snprintf(number, sizeof(number), ",\"order\":%d", order);
	add(&text, number);
	return ask(luo, &text, "SUBSCRIBED");
}

int luo_unsubscribe(struct luo *luo, const char *id) { return ask_plainly(luo, "UNSUBSCRIBE", id, "OK"); }
int luo_finished(struct luo *luo, const char *id) { return ask_plainly(luo, "FINISHED", id, "OK"); }
int luo_ready(struct luo *luo, const char *id) { return ask_plainly(luo, "READY", id, "OK"); }
int luo_stopped(struct luo *luo, const char *id) { return ask_plainly(luo, "STOPPED", id, "OK"); }

int luo_claim(struct luo *luo, const char *id)
{
	return ask_plainly(luo, "CLAIM", id, "CLAIMED") ? -1 : take_fd(luo);
}

int luo_claim_unverified(struct luo *luo, const char *id)
{
	struct text text;

	begin(&text, "CLAIM", id);
	add(&text, ",\"unverified\":true");
	return ask(luo, &text, "CLAIMED") ? -1 : take_fd(luo);
}

int luo_decline(struct luo *luo, const char *id, const char *reason)
{
	struct text text;

	begin(&text, "ABORT", id);
	add(&text, ",\"reason\":");
	add_string(&text, reason);
	return ask(luo, &text, "OK");
}

int luo_can(struct luo *luo, const char *id, int able, const char *reason, const char *kind,
	    unsigned long long count, unsigned long long bytes)
{
	struct text text;
	char numbers[80];

	begin(&text, "CAN", id);
	add(&text, able ? ",\"able\":true,\"reason\":" : ",\"able\":false,\"reason\":");
	add_string(&text, reason ? reason : "");
	if (kind) {
		add(&text, ",\"files\":[{\"kind\":");
		add_string(&text, kind);
		snprintf(numbers, sizeof(numbers), ",\"count\":%llu,\"bytes\":%llu}]", count, bytes);
		add(&text, numbers);
	}
	return say(luo, &text);
}

int luo_pending(const struct luo *luo)
{
	return luo->event_count > 0 ||
	       memchr(luo->line + luo->next, '\n', luo->used - luo->next) != NULL;
}

int luo_wait(struct luo *luo, struct luo_message *message, int limit_ms)
{
	long long until = limit_ms < 0 ? -1 : now_ms() + limit_ms;
	char *line;
	int got;

	if (luo->event_count) {
		*message = luo->events[0];
		luo->event_count--;
		memmove(luo->events, luo->events + 1, luo->event_count * sizeof(luo->events[0]));
		return 1;
	}
	while ((got = next_line(luo, until, &line)) > 0) {
		got = event_of(luo, line, message);
		if (got)
			return got;
		/* What is wrong with an answer to LUO_CHECK is nobody's answer. */
		refused(luo, line);
	}
	return got;
}

int luo_next(struct luo *luo, int *session)
{
	struct luo_message message;

	if (luo_wait(luo, &message, -1) <= 0)
		return -1;
	*session = message.session;
	return message.event;
}
