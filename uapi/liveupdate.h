/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The user API of live update: the ioctls of /dev/liveupdate and of session descriptors.
 *
 * An argument is a structure that begins with its own size in bytes, as the caller knows it. A
 * caller may be older than the kernel, and leave out later members, or newer: bytes that the kernel
 * does not know must be zero. For every ioctl
 *
 *	ENOTTY	the number is known, but not with these type and direction bits
 *	EINVAL	the number is unknown; the size is below the smallest; a member has a value that it
 *		must not have;
 *		or the ioctl is not for this kind of session
 *	E2BIG	the structure is longer than the kernel knows, and not zero there
 *	EFAULT	the structure is not in memory that can be read and written
 *	ENOMEM	there is not enough memory
 *	EMFILE	the process has no descriptor left; ENFILE: the system has none
 */
#ifndef _UAPI_LIVEUPDATE_H
#define _UAPI_LIVEUPDATE_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* All numbers are of this type */
#define LIVEUPDATE_IOCTL_TYPE		0xBA

/* Room for a session's name, its terminating NUL included */
#define LIVEUPDATE_SESSION_NAME_LENGTH	64

/* Of the device */
enum {
	LIVEUPDATE_CMD_BASE = 0x00,
	LIVEUPDATE_CMD_CREATE_SESSION = 0x00,
	LIVEUPDATE_CMD_RETRIEVE_SESSION = 0x01,
};

/* Of a session */
enum {
	LIVEUPDATE_CMD_SESSION_BASE = 0x40,
	LIVEUPDATE_CMD_SESSION_PRESERVE_FD = 0x40,
	LIVEUPDATE_CMD_SESSION_RETRIEVE_FD = 0x41,
	LIVEUPDATE_CMD_SESSION_FINISH = 0x42,
	LIVEUPDATE_CMD_SESSION_GET_NAME = 0x43,
};

/**
 * struct liveupdate_ioctl_create_session - make a session that goes to the next kernel
 * @size: in; of this structure
 * @fd: out; the session. Closing the last descriptor of it gives up what it preserves
 * @name: in; 1 to 63 bytes and a NUL
 *
 * EINVAL: the name is empty, or no NUL ends it. EEXIST: an outgoing session has this name. ENOSPC:
 * there are too many.
 */
struct liveupdate_ioctl_create_session {
	__u32		size;
	__s32		fd;
	__u8		name[LIVEUPDATE_SESSION_NAME_LENGTH];
};
#define LIVEUPDATE_IOCTL_CREATE_SESSION \
	_IO(LIVEUPDATE_IOCTL_TYPE, LIVEUPDATE_CMD_CREATE_SESSION)

/**
 * struct liveupdate_ioctl_retrieve_session - get a session that the previous kernel handed over
 * @size: in; of this structure
 * @fd: out; the session. Closing the last descriptor of it finishes it
 * @name: in; as it was created with
 *
 * ENOENT: no session of this name has arrived, or it is finished. EINVAL: somebody has retrieved
 * it.
 */
struct liveupdate_ioctl_retrieve_session {
	__u32		size;
	__s32		fd;
	__u8		name[LIVEUPDATE_SESSION_NAME_LENGTH];
};
#define LIVEUPDATE_IOCTL_RETRIEVE_SESSION \
	_IO(LIVEUPDATE_IOCTL_TYPE, LIVEUPDATE_CMD_RETRIEVE_SESSION)

/**
 * struct liveupdate_session_preserve_fd - put a file into an outgoing session
 * @size: in; of this structure
 * @fd: in; any descriptor of the file. It may be closed afterwards
 * @token: in; a number of the caller's choice by which the file is retrieved
 *
 * EEXIST: the session has a file with this token. EBADF: @fd is no open file. ENOENT: files of this
 * kind cannot be preserved. EBUSY: the file is preserved already, in this session or another.
 * ENOSPC: the session is full.
 */
struct liveupdate_session_preserve_fd {
	__u32		size;
	__s32		fd;
	__aligned_u64	token;
};
#define LIVEUPDATE_SESSION_PRESERVE_FD \
	_IO(LIVEUPDATE_IOCTL_TYPE, LIVEUPDATE_CMD_SESSION_PRESERVE_FD)

/**
 * struct liveupdate_session_retrieve_fd - get a file out of a session that has arrived
 * @size: in; of this structure
 * @fd: out; a descriptor of the file. Asking again gives another descriptor of the same file
 * @token: in; as it was preserved with
 *
 * ENOENT: the session has no file with this token, or it is finished. After ENOMEM, EMFILE, ENFILE
 * and EFAULT all is as it was, and it can be tried again, by somebody else too: the memory is
 * charged to the cgroup of who retrieves it. So it can after ENODEV, once the driver of the file is
 * there. Any other failure is the file's own, and final: it is returned again each time.
 */
struct liveupdate_session_retrieve_fd {
	__u32		size;
	__s32		fd;
	__aligned_u64	token;
};
#define LIVEUPDATE_SESSION_RETRIEVE_FD \
	_IO(LIVEUPDATE_IOCTL_TYPE, LIVEUPDATE_CMD_SESSION_RETRIEVE_FD)

/**
 * struct liveupdate_session_finish - end a session that has arrived
 * @size: in; of this structure
 * @reserved: in; 0
 *
 * The kernel lets go of the session's files. Those retrieved live on as any open file; the memory
 * of the others is freed. EBUSY: a file cannot be let go of yet; nothing has changed.
 */
struct liveupdate_session_finish {
	__u32		size;
	__u32		reserved;
};
#define LIVEUPDATE_SESSION_FINISH \
	_IO(LIVEUPDATE_IOCTL_TYPE, LIVEUPDATE_CMD_SESSION_FINISH)

/**
 * struct liveupdate_session_get_name - ask a session for its name
 * @size: in; of this structure
 * @reserved: in; 0
 * @name: out; the name and a NUL. The link in /proc/self/fd may have it cut short
 */
struct liveupdate_session_get_name {
	__u32		size;
	__u32		reserved;
	__u8		name[LIVEUPDATE_SESSION_NAME_LENGTH];
};
#define LIVEUPDATE_SESSION_GET_NAME \
	_IO(LIVEUPDATE_IOCTL_TYPE, LIVEUPDATE_CMD_SESSION_GET_NAME)

#endif /* _UAPI_LIVEUPDATE_H */
