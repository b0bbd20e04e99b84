/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A client of luod for services in C and C++. All calls return 0 or a descriptor, or -1 with errno;
 * luo->error has luod's own words when it said no. No call waits longer than luo->timeout_ms (30 s)
 * for an answer, and signals do not end one: after ETIMEDOUT, EPIPE or ECONNRESET the connection is
 * of no use any more: luo_close(), close all sessions, and connect again.
 *
 * ENOENT: nothing has arrived. EPERM: not this user. EBUSY: another connection has the id. EBADMSG:
 * what has arrived is damaged, or nobody knows whether it is whole. ESTALE: not now, or too late.
 * EAGAIN: too many. EIO: luod cannot use its device.
 *
 * Ids are of A-Z a-z 0-9 . _ @ - and have 40 characters at most. A connection can have 16.
 */
#ifndef LUO_CLIENT_H
#define LUO_CLIENT_H

#ifdef __cplusplus
extern "C" {
#endif

#define LUO_SOCKET "/run/luod/liveupdate.sock"
#define LUO_ID_MAX 40

enum luo_event {
	/* preserve in the session, then luo_ready(), or luo_decline() and close it */
	LUO_START = 1,
	/* close the session of this id (of all, without an id) and go on as before */
	LUO_ABORT = 2,
	/* after luo_ready(): stand still, preserve the last state, then luo_stopped() */
	LUO_STOP = 3,
	/* could it be preserved now? luo_can(), and go on */
	LUO_CHECK = 4,
};

/* How to subscribe */
enum luo_wish {
	LUO_REQUIRED = 1,	/* an update that this id cannot be part of is called off */
	LUO_STOPS = 2,		/* LUO_STOP is understood: preserve while running */
	LUO_CHECKS = 4,		/* LUO_CHECK is understood */
};

struct luo_message {
	enum luo_event event;
	int session;			/* of LUO_START, else -1; the caller closes it */
	unsigned int deadline_ms;	/* from when luod sent it */
	char id[LUO_ID_MAX + 1];	/* whose; empty: all of this connection's */
};

/* To be left alone, but for timeout_ms and error. */
struct luo {
	int socket;		/* for poll(), see luo_pending() */
	int timeout_ms;
	char error[256];
	int fds[8];		/* came with lines that are not read yet */
	int fd_count;
	int used;		/* bytes in line[] */
	int next;		/* where the next line begins */
	int event_count;
	struct luo_message events[64];	/* came while something else was waited for */
	char line[8192];
};

int luo_connect(struct luo *luo, const char *path);
void luo_close(struct luo *luo);

/* Takes part in updates under this id. */
int luo_subscribe(struct luo *luo, const char *id);
/* The same, with what is said in enum luo_wish; a greater order is stopped after smaller ones. */
int luo_subscribe_with(struct luo *luo, const char *id, unsigned int wish, int order);
int luo_unsubscribe(struct luo *luo, const char *id);

/* The session that has arrived. Retrieve, FINISH, close, then luo_finished(). */
int luo_claim(struct luo *luo, const char *id);
/* The same when nobody knows whether all is in: only for who can tell by what is in it. */
int luo_claim_unverified(struct luo *luo, const char *id);
int luo_finished(struct luo *luo, const char *id);

int luo_ready(struct luo *luo, const char *id);
int luo_stopped(struct luo *luo, const char *id);
/* It cannot take part, or no longer. Close the session. The reason is for people. */
int luo_decline(struct luo *luo, const char *id, const char *reason);
/*
 * The answer to LUO_CHECK: whether it could, with the reason if not, and how many files of how many
 * bytes that would be.
 */
int luo_can(struct luo *luo, const char *id, int able, const char *reason, const char *kind,
	    unsigned long long count, unsigned long long bytes);

/*
 * What luod wants: 1, and 0 if nothing has come in so many milliseconds (-1: however long it
 * takes).
 *
 * An event loop polls luo->socket for reading, but what came while a call waited for its answer is
 * here already, and poll() does not tell: before each poll, take messages while luo_pending(), and
 * after it with a limit of 0 until there is none.
 */
int luo_wait(struct luo *luo, struct luo_message *message, int limit_ms);
int luo_pending(const struct luo *luo);

/* luo_wait() without a limit for who has one id: the event, and its session in *session. */
int luo_next(struct luo *luo, int *session);

#ifdef __cplusplus
}
#endif

#endif
