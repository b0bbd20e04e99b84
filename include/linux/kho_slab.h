/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Preserved slab caches: objects of one size that live through a live update where they are.
 *
 * Objects are preserved from the moment they are allocated, until they are freed. The next kernel
 * attaches the cache, finds the objects in it, and goes on allocating and freeing. Any number of threads
 * may call the functions at the same time. All may sleep but those that are said not to, which can be
 * called in any context but NMIs. Each CPU allocates from pages of its own, on its NUMA node.
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
 * of another size or alignment; -EEXIST if this kernel has made one of that name; -EIO if some of its
 * memory has gone bad; -ENOMEM, and it may be tried again. What is not taken over stays preserved, out of
 * use; what was taken over is not there a second time.
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
 * kho_slab_alloc_atomic - as kho_slab_alloc(), without sleeping
 *
 * Return: an object of a page that the cache has already, or NULL if all are allocated.
 */
void *kho_slab_alloc_atomic(struct kho_slab *slab);

/**
 * kho_slab_zalloc - as kho_slab_alloc(), whatever the previous kernel did to memory it had not allocated
 */
void *kho_slab_zalloc(struct kho_slab *slab);

/**
 * kho_slab_free - free an object, or NULL
 *
 * It is zeroed, so that nothing of it is left for the next kernel. A page whose last object it was is given
 * back; of those that a CPU allocates from, one stays.
 *
 * Return: 0, or -EINVAL for what is no allocated object of this cache; nothing has happened then.
 */
int kho_slab_free(struct kho_slab *slab, void *object);

/* As kho_slab_free(), without sleeping: no page is given back. */
int kho_slab_free_atomic(struct kho_slab *slab, void *object);

/* Gives back all pages of objects that have none. */
void kho_slab_shrink(struct kho_slab *slab);

/**
 * kho_slab_save - preserve a copy of something that was allocated elsewhere, such as by kmalloc()
 * @from: what is copied, in a handler's freeze() for instance, when nobody changes it any more
 * @size: its bytes, no more than an object has; the rest of the object is as
 *	kho_slab_alloc() has it
 *
 * What was copied stays the caller's. Nothing else that happens to be near it is handed over.
 *
 * Return: the physical address of the copy, for kho_slab_load() or kho_slab_object(), or 0.
 */
u64 kho_slab_save(struct kho_slab *slab, const void *from, size_t size);

/**
 * kho_slab_load - take a copy out of the cache into memory of kmalloc(), as many bytes as an object has
 * @phys: what kho_slab_save() returned
 *
 * The copy in the cache is freed. Does not sleep if @flags say so.
 *
 * Return: memory for kfree(), or an ERR_PTR: -EINVAL if no object is allocated there, also if it was loaded
 * already, -ENOMEM.
 */
void *kho_slab_load(struct kho_slab *slab, u64 phys, gfp_t flags);

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
