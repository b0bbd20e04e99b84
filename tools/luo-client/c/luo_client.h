/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A client of luod for services in C. All calls block, and return 0 or a descriptor, or -1 with errno.
 * Ids are of A-Z a-z 0-9 . _ @ - and have 40 characters at most, so they need no escaping in JSON.
 */
#ifndef LUO_CLIENT_H
#define LUO_CLIENT_H

#define LUO_SOCKET "/run/luod/liveupdate.sock"

enum luo_event { LUO_START = 1, LUO_ABORT = 2 };

struct luo {
	int socket;
	int fd;			/* came with the last line */
	int used;		/* bytes in line[] */
	int next;		/* where the next line begins */
	int event;		/* came while something else was waited for */
	int event_fd;
	char line[8192];
};

/* Connects. After luod is gone: luo_close(), close all sessions, and connect again. */
int luo_connect(struct luo *luo, const char *path);
void luo_close(struct luo *luo);
/* Takes part in updates under this id. One id a connection. */
int luo_subscribe(struct luo *luo, const char *id);
/* The session that has arrived, or -1 and ENOENT. Retrieve, FINISH, close, then luo_finished(). */
int luo_claim(struct luo *luo, const char *id);
int luo_finished(struct luo *luo, const char *id);
/* LUO_START: preserve in *session, then luo_ready(); LUO_ABORT: close the session and go on as before. */
int luo_next(struct luo *luo, int *session);
int luo_ready(struct luo *luo, const char *id);

#endif
