// SPDX-License-Identifier: GPL-2.0
/*
 * A service in C: a counter in a memfd, which counts how often it has started, and goes on counting
 * after a live update. `counter ID [SOCKET]` says `count N`, then `serving`, `preserved`,
 * `goes on`.
 */
#define _GNU_SOURCE
#include "luo_client.h"
#include "liveupdate.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define TOKEN 1

static int arrived(struct luo *luo, const char *id)
{
	struct liveupdate_session_retrieve_fd retrieve = {
		.size = sizeof(retrieve),
		.token = TOKEN,
	};
	struct liveupdate_session_finish finish = { .size = sizeof(finish) };
	int session = luo_claim(luo, id);

	if (session < 0)
		return -1;
	if (ioctl(session, LIVEUPDATE_SESSION_RETRIEVE_FD, &retrieve) ||
	    ioctl(session, LIVEUPDATE_SESSION_FINISH, &finish))
		return -1;
	close(session);
	return luo_finished(luo, id) ? -1 : retrieve.fd;
}

int main(int argc, char **argv)
{
	const char *path = argc > 2 ? argv[2] : LUO_SOCKET;
	int memory, session = -1;
	struct luo_message message;
	struct luo luo;
	long count = 0;

	if (argc < 2) {
		fprintf(stderr, "usage: counter ID [SOCKET]\n");
		return 2;
	}
	setlinebuf(stdout);
	if (luo_connect(&luo, path)) {
		perror("counter: luod");
		return 1;
	}
	memory = arrived(&luo, argv[1]);
	if (memory < 0 && errno != ENOENT) {
		perror("counter: claim");
		return 1;
	}
	if (memory < 0 && ((memory = memfd_create("counter", MFD_CLOEXEC)) < 0 || ftruncate(memory, 4096)))
		return 1;
	if (pread(memory, &count, sizeof(count), 0) != sizeof(count))
		return 1;
	count++;
	if (pwrite(memory, &count, sizeof(count), 0) != sizeof(count))
		return 1;
	printf("count %ld\n", count);
	if (luo_subscribe(&luo, argv[1])) {
		perror("counter: subscribe");
		return 1;
	}
	printf("serving\n");
	while (luo_wait(&luo, &message, -1) > 0) {
		struct liveupdate_session_preserve_fd preserve = {
			.size = sizeof(preserve),
			.fd = memory,
			.token = TOKEN,
		};

		if (message.event != LUO_START && message.event != LUO_ABORT)
			continue;
		if (session >= 0)
			close(session);
		session = message.session;
		if (message.event == LUO_ABORT) {
			printf("goes on\n");
		} else if (ioctl(session, LIVEUPDATE_SESSION_PRESERVE_FD, &preserve)) {
			perror("counter: preserve");
			luo_decline(&luo, argv[1], strerror(errno));
			close(session);
			session = -1;
		} else if (luo_ready(&luo, argv[1])) {
			perror("counter: ready");
			close(session);
			session = -1;
		} else {
			printf("preserved\n");
		}
	}
	perror("counter: luod");
	return 1;
}
