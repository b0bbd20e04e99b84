// SPDX-License-Identifier: GPL-2.0
/*
 * Keeps a file's content through a live update: keep save NAME FILE before it, keep load NAME after
 * it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "liveupdate.h"

/* By which the file is known in its session. */
#define TOKEN 1

static int must(int result, const char *what)
{
	if (result < 0) {
		fputs("keep: ", stderr);
		perror(what);
		exit(1);
	}
	return result;
}

static void copy(int from, int to)
{
	static char buffer[1 << 16];
	ssize_t got, put, done;

	while ((got = read(from, buffer, sizeof(buffer))) > 0)
		for (done = 0; done < got; done += put)
			if ((put = write(to, buffer + done, got - done)) < 0)
				must(-1, "cannot write");
	must(got < 0 ? -1 : 0, "cannot read");
}

/* Only one process at a time can have the device open; sessions live on without it. */
static int open_device(void)
{
	return must(open("/dev/liveupdate", O_RDWR | O_CLOEXEC), "cannot open /dev/liveupdate");
}

static void save(const char *name, const char *path)
{
	struct liveupdate_ioctl_create_session create = { .size = sizeof(create) };
	struct liveupdate_session_preserve_fd preserve = {
		.size = sizeof(preserve),
		.token = TOKEN,
	};
	int file, memory, device;
	struct stat found;

	file = must(open(path, O_RDONLY), path);
	memory = must(memfd_create(name, MFD_CLOEXEC), "cannot make a memfd");
	copy(file, memory);
	must(fstat(memory, &found), "cannot ask for the size");

	device = open_device();
	memcpy(create.name, name, strlen(name) + 1);
	must(ioctl(device, LIVEUPDATE_IOCTL_CREATE_SESSION, &create), "cannot create the session");
	close(device);

	preserve.fd = memory;
	must(ioctl(create.fd, LIVEUPDATE_SESSION_PRESERVE_FD, &preserve), "cannot preserve the file");
	printf("%lld bytes wait for the next kernel\n", (long long)found.st_size);
	fflush(stdout);

	/* A session is given up when it is closed, so a process stays behind that has it open. */
	must(daemon(1, 0), "cannot stay in the background");
	for (;;)
		pause();
}

static void load(const char *name)
{
	struct liveupdate_ioctl_retrieve_session session = { .size = sizeof(session) };
	struct liveupdate_session_retrieve_fd file = { .size = sizeof(file), .token = TOKEN };
	struct liveupdate_session_finish finish = { .size = sizeof(finish) };
	int device = open_device();

	memcpy(session.name, name, strlen(name) + 1);
	must(ioctl(device, LIVEUPDATE_IOCTL_RETRIEVE_SESSION, &session), "cannot retrieve the session");
	close(device);

	must(ioctl(session.fd, LIVEUPDATE_SESSION_RETRIEVE_FD, &file), "cannot retrieve the file");
	must(ioctl(session.fd, LIVEUPDATE_SESSION_FINISH, &finish), "cannot finish the session");
	close(session.fd);

	/* The position is kept too: it is where the writer left it. */
	must(lseek(file.fd, 0, SEEK_SET), "cannot go to the start");
	copy(file.fd, STDOUT_FILENO);
}

int main(int count, char **words)
{
	int saves = count == 4 && !strcmp(words[1], "save");
	int loads = count == 3 && !strcmp(words[1], "load");

	if (!saves && !loads) {
		fprintf(stderr, "keep: write keep save NAME FILE, or keep load NAME\n");
		return 2;
	}
	if (strlen(words[2]) >= LIVEUPDATE_SESSION_NAME_LENGTH) {
		fprintf(stderr, "keep: a name has 63 bytes at most\n");
		return 2;
	}
	if (saves)
		save(words[2], words[3]);
	else
		load(words[2]);
	return 0;
}
