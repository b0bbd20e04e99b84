// SPDX-License-Identifier: GPL-2.0
/*
 * The client in C, with signals all the time: `trial SOCKET`. It says what it has done, and is told
 * what comes next by luod.
 */
#include "luo_client.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static void tick(int signal) { (void)signal; }

static void must(int good, const char *what, struct luo *luo)
{
	if (good)
		return;
	printf("failed: %s: %s (%s)\n", what, strerror(errno), luo->error);
	exit(1);
}

/* As an event loop does it. */
static void next(struct luo *luo, struct luo_message *message)
{
	struct pollfd polled = { .fd = luo->socket, .events = POLLIN };

	for (;;) {
		int got;

		if (!luo_pending(luo) && poll(&polled, 1, 10000) < 0 && errno == EINTR)
			continue;
		got = luo_wait(luo, message, 0);
		must(got >= 0, "wait", luo);
		if (got)
			return;
	}
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = tick };
	struct itimerval often = { { 0, 2000 }, { 0, 2000 } };
	struct luo_message message;
	struct luo luo;
	int seen = 0;

	if (argc < 2)
		return 2;
	setlinebuf(stdout);
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	must(!luo_connect(&luo, argv[1]), "connect", &luo);
	must(luo_wait(&luo, &message, 100) == 0, "nothing yet", &luo);
	must(luo_claim(&luo, "none") == -1 && errno == ENOENT, "nothing to claim", &luo);
	must(luo_ready(&luo, "none") == -1 && errno == ESTALE && luo.error[0], "not asked", &luo);
	must(!luo_subscribe_with(&luo, "runs", LUO_REQUIRED | LUO_STOPS | LUO_CHECKS, 5), "subscribe", &luo);
	must(!luo_subscribe(&luo, "plain"), "subscribe", &luo);
	must(!luo_subscribe(&luo, "gone"), "subscribe", &luo);
	must(!luo_unsubscribe(&luo, "gone"), "unsubscribe", &luo);
	printf("subscribed\n");
	next(&luo, &message);
	must(message.event == LUO_CHECK && !strcmp(message.id, "runs"), "check", &luo);
	must(!luo_can(&luo, "runs", 0, "no \"room\"\n\xc3\xbc", "memfd", 3, 1ULL << 33), "can", &luo);
	while (seen != 3) {
		next(&luo, &message);
		must(message.event == LUO_START && message.session >= 0, "start", &luo);
		must(message.deadline_ms > 0, "deadline", &luo);
		seen |= strcmp(message.id, "runs") ? 1 : 2;
		if (!strcmp(message.id, "runs"))
			must(!luo_ready(&luo, "runs"), "ready", &luo);
		else
			must(!luo_decline(&luo, "plain", "not today"), "decline", &luo);
		close(message.session);
	}
	next(&luo, &message);
	must(message.event == LUO_STOP && !strcmp(message.id, "runs"), "stop", &luo);
	must(!luo_stopped(&luo, "runs"), "stopped", &luo);
	printf("stopped\n");
	next(&luo, &message);
	must(message.event == LUO_ABORT && !strcmp(message.id, "runs"), "abort", &luo);
	luo_close(&luo);
	printf("done\n");
	return 0;
}
