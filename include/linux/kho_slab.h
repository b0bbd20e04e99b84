/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Preserved slab caches: objects of one size that live through a live update where they are.
 *
 * Objects are preserved from the moment they are allocated, until they are freed. The next kernel
 * attaches the cache, finds the objects in it, and goes on allocating and freeing. All functions may
 * sleep, and any number of threads may call them at the same time.
 */
#ifndef _LINUX_KHO_SLAB_H
#define _LINUX_KHO_SLAB_H

#ifndef __BINDGEN__
#include <linux/types.h>
#endif

struct kho_slab;

/**
 * kho_slab_create - make a cache
 * @name: up to 48 letters, digits and "-_.", by which the next kernel finds it. NULL or "": it is
 *	found by its handle. There is room for some thirty names in a handover.
 * @size: bytes of an object, up to a page
 * @align: what its address is a multiple of: a power of two up to a page, or 0
 * @ctor: called for each object that is allocated, when it is zero; or NULL
 *
 * Return: the cache or an ERR_PTR: -EINVAL, also while KHO is off, -EEXIST for a name in use, -ENOMEM.
 */
struct kho_slab *kho_slab_create(const char *name, size_t size, size_t align,
				 void (*ctor)(void *object));

/**
 * kho_slab_attach - take over a cache of the previous kernel by its name
 *
 * It is checked as a whole first. The constructor is not called for objects that are there.
 *
 * Return: the cache or an ERR_PTR: -ENOENT if there is none of that name; -EINVAL if it is damaged or
 * of another size or alignment; -EIO if some of its memory has gone bad; -ENOMEM, and it may be tried
 * again. What is not taken over stays preserved, out of use.
 */
struct kho_slab *kho_slab_attach(const char *name, size_t size, size_t align,
				 void (*ctor)(void *object));

/**
 * kho_slab_attach_at - take over a cache that has no name, by the handle it had
 */
struct kho_slab *kho_slab_attach_at(u64 handle, size_t size, size_t align,
				    void (*ctor)(void *object));

/**
 * kho_slab_destroy - free all objects, and the cache
 * @slab: a cache, an ERR_PTR or NULL
 */
void kho_slab_destroy(struct kho_slab *slab);

/**
 * kho_slab_alloc - allocate an object
 *
 * Return: the object, zero but for what the constructor did, or NULL.
 */
void *kho_slab_alloc(struct kho_slab *slab);

/**
 * kho_slab_zalloc - as kho_slab_alloc(), whatever the previous kernel did to memory it had not allocated
 */
void *kho_slab_zalloc(struct kho_slab *slab);

/**
 * kho_slab_free - free an object, or NULL
 *
 * It is zeroed, so that nothing of it is left for the next kernel.
 *
 * Return: 0, or -EINVAL for what is no allocated object of this cache; nothing has happened then.
 */
int kho_slab_free(struct kho_slab *slab, void *object);

/**
 * kho_slab_next - walk the allocated objects
 * @position: 0 to begin with; set to what is behind the object that is returned
 *
 * Objects may be allocated and freed meanwhile, the one returned too. Those that are there all the time
 * are met once, in no particular order.
 *
 * Return: an object, or NULL if there are no more.
 */
void *kho_slab_next(struct kho_slab *slab, u64 *position);

/**
 * kho_slab_object - the object at a physical address that came from elsewhere, such as from the previous
 * kernel
 *
 * Return: the object, or NULL if there is none allocated at that address.
 */
void *kho_slab_object(struct kho_slab *slab, u64 phys);

/* The physical address of an object, for kho_slab_object(); 0 for what is none. */
u64 kho_slab_phys(struct kho_slab *slab, const void *object);

/* What kho_slab_attach_at() finds a cache without a name by. */
u64 kho_slab_handle(struct kho_slab *slab);

/* How many objects are allocated. */
u64 kho_slab_count(struct kho_slab *slab);

#endif
