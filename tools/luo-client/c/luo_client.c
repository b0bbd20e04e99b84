// SPDX-License-Identifier: GPL-2.0
/* A client of luod in about a hundred lines: see luo_client.h, and Documentation/luod-protocol.rst for the protocol. */
#include "luo_client.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int luo_connect(struct luo *luo, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	memset(luo, 0, sizeof(*luo));
	luo->fd = luo->event_fd = -1;
	if (strlen(path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(address.sun_path, path);
	luo->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (luo->socket < 0)
		return -1;
	if (connect(luo->socket, (struct sockaddr *)&address, sizeof(address)) == 0)
		return 0;
	luo_close(luo);
	return -1;
}

void luo_close(struct luo *luo)
{
	int error = errno;

	close(luo->socket);
	if (luo->fd >= 0)
		close(luo->fd);
	if (luo->event_fd >= 0)
		close(luo->event_fd);
	errno = error;
}

/* The next line, ended by a NUL. A descriptor comes with the first byte of its line, and never two in one read. */
static char *next_line(struct luo *luo)
{
	char control[CMSG_SPACE(sizeof(int))], *end;

	memmove(luo->line, luo->line + luo->next, luo->used - luo->next);
	luo->used -= luo->next;
	luo->next = 0;
	while (!(end = memchr(luo->line, '\n', luo->used))) {
		struct iovec io = { luo->line + luo->used, sizeof(luo->line) - luo->used };
		struct msghdr message = { .msg_iov = &io, .msg_iovlen = 1,
			.msg_control = control, .msg_controllen = sizeof(control) };
		ssize_t got = recvmsg(luo->socket, &message, MSG_CMSG_CLOEXEC);

		if (got <= 0) {
			errno = got ? errno : io.iov_len ? ECONNRESET : EMSGSIZE;
			return NULL;
		}
		if (CMSG_FIRSTHDR(&message) && CMSG_FIRSTHDR(&message)->cmsg_type == SCM_RIGHTS)
			memcpy(&luo->fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
		luo->used += got;
	}
	*end = 0;
	luo->next = end + 1 - luo->line;
	return luo->line;
}

static int is(const char *line, const char *type)
{
	char wanted[64];

	snprintf(wanted, sizeof(wanted), "\"type\":\"%s\"", type);
	return strstr(line, wanted) != NULL;
}

static int take_fd(struct luo *luo)
{
	int fd = luo->fd;

	luo->fd = -1;
	return fd;
}

/* Notes down what luod wants; 0 if the line is something else. */
static int take_event(struct luo *luo, const char *line)
{
	if (is(line, "START_PRESERVATION"))
		luo->event_fd = take_fd(luo);
	return luo->event = is(line, "START_PRESERVATION") ? LUO_START : is(line, "ABORT") ? LUO_ABORT : 0;
}

/* Says something, and waits for the answer of this type. */
static int ask(struct luo *luo, const char *what, const char *id, const char *answer)
{
	char text[128];
	int length = snprintf(text, sizeof(text), "{\"version\":1,\"type\":\"%s\",\"id\":\"%s\"}\n", what, id);
	char *line;

	if (length >= (int)sizeof(text) || send(luo->socket, text, length, MSG_NOSIGNAL) != length)
		return -1;
	while ((line = next_line(luo))) {
		if (is(line, answer))
			return 0;
		if (take_event(luo, line))
			continue;
		errno = strstr(line, "\"nothing-to-claim\"") ? ENOENT : strstr(line, "\"not-permitted\"") ? EPERM : EPROTO;
		return -1;
	}
	return -1;
}

int luo_subscribe(struct luo *luo, const char *id) { return ask(luo, "SUBSCRIBE", id, "SUBSCRIBED"); }
int luo_finished(struct luo *luo, const char *id) { return ask(luo, "FINISHED", id, "OK"); }
int luo_ready(struct luo *luo, const char *id) { return ask(luo, "READY", id, "OK"); }

int luo_claim(struct luo *luo, const char *id)
{
	return ask(luo, "CLAIM", id, "CLAIMED") ? -1 : take_fd(luo);
}

int luo_next(struct luo *luo, int *session)
{
	int event = luo->event;
	char *line;

	while (!event && (line = next_line(luo)))
		event = take_event(luo, line);
	luo->event = 0;
	*session = luo->event_fd;
	luo->event_fd = -1;
	return event ? event : -1;
}
