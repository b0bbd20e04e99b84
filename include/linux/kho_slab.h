/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Preserved slab caches: objects of one size that live through a live update where they are.
 *
 * Objects are preserved from the moment they are allocated, until they are freed. The next kernel
 * attaches the cache, finds the objects in it, and goes on allocating and freeing. Any number of
 * threads may call the functions at the same time. All may sleep but those that say they do not,
 * which can be called in any context but NMIs. Each CPU allocates from pages of its own, on its
 * NUMA node.
 */
#ifndef _LINUX_KHO_SLAB_H
#define _LINUX_KHO_SLAB_H

#ifndef __BINDGEN__
#include <linux/types.h>
#endif

struct kho_slab;

/**
 * kho_slab_create() - Make a cache. @name: Up to 48 letters, digits and "-_.", by which the next
 * kernel finds the cache. If it is NULL
 *	or "", the cache is found by its handle. There is room for some thirty names in a handover.
 * @size: Bytes of an object, up to a page.
 * @align: Alignment of objects: a power of two up to a page, or 0.
 * @ctor: Called for each object that is allocated, when it has been zeroed; or NULL.
 *
 * Return: The cache, or an ERR_PTR: -EINVAL for wrong arguments and while KHO is off, -EEXIST for a
 * name in use, -ENOMEM.
 */
struct kho_slab *kho_slab_create(const char *name, size_t size, size_t align,
				 void (*ctor)(void *object));

/**
 * kho_slab_attach() - Take over a cache of the previous kernel by its name.
 * @name: The name it was created with.
 * @size: As for kho_slab_create(); must be what the previous kernel said.
 * @align: As for kho_slab_create(); must be what the previous kernel said.
 * @ctor: Called for objects that are allocated from now on, not for those that are there.
 *
 * The whole cache is checked first. A cache that is not taken over stays preserved and reserved.
 * One that was taken over cannot be attached a second time.
 *
 * Return: The cache, or an ERR_PTR: -ENOENT if there is none of that name; -EINVAL if it is damaged
 * or of another size or alignment; -EEXIST if this kernel has made one of that name; -EIO if some
 * of its memory has gone bad; -ENOMEM, after which it may be tried again.
 */
struct kho_slab *kho_slab_attach(const char *name, size_t size, size_t align,
				 void (*ctor)(void *object));

/**
 * kho_slab_attach_at() - Take over a cache that has no name.
 * @handle: What kho_slab_handle() returned in the previous kernel.
 * @size: As for kho_slab_attach().
 * @align: As for kho_slab_attach().
 * @ctor: As for kho_slab_attach().
 *
 * Return: As for kho_slab_attach().
 */
struct kho_slab *kho_slab_attach_at(u64 handle, size_t size, size_t align,
				    void (*ctor)(void *object));

/**
 * kho_slab_destroy() - Free all objects of a cache, and the cache.
 * @slab: The cache; an ERR_PTR or NULL is none.
 */
void kho_slab_destroy(struct kho_slab *slab);

/**
 * kho_slab_alloc() - Allocate an object.
 * @slab: The cache.
 *
 * Return: The object, zero but for what the constructor did, or NULL.
 */
void *kho_slab_alloc(struct kho_slab *slab);

/**
 * kho_slab_alloc_atomic() - Allocate an object without sleeping.
 * @slab: The cache.
 *
 * Return: An object in a page that the cache has already, or NULL if all of these are allocated.
 */
void *kho_slab_alloc_atomic(struct kho_slab *slab);

/**
 * kho_slab_zalloc() - Allocate an object and zero it once more.
 * @slab: The cache.
 *
 * As kho_slab_alloc(), and zero whatever the previous kernel wrote to memory that it had not
 * allocated.
 *
 * Return: The object, or NULL.
 */
void *kho_slab_zalloc(struct kho_slab *slab);

/**
 * kho_slab_free() - Free an object.
 * @slab: The cache.
 * @object: An object of this cache, or NULL.
 *
 * The object is zeroed, so that nothing of it is left for the next kernel. A page without objects
 * is given back; each CPU keeps one of those that it allocates from.
 *
 * Return: 0, or -EINVAL if @object is no allocated object of this cache; nothing has changed then.
 */
int kho_slab_free(struct kho_slab *slab, void *object);

/**
 * kho_slab_free_atomic() - Free an object without sleeping.
 * @slab: The cache.
 * @object: An object of this cache, or NULL.
 *
 * As kho_slab_free(), but pages without objects stay in the cache until kho_slab_shrink().
 *
 * Return: As for kho_slab_free().
 */
int kho_slab_free_atomic(struct kho_slab *slab, void *object);

/**
 * kho_slab_shrink() - Give back all pages in which no object is allocated.
 * @slab: The cache.
 */
void kho_slab_shrink(struct kho_slab *slab);

/**
 * kho_slab_save() - Preserve a copy of something that was allocated elsewhere, as by kmalloc().
 * @slab: The cache. @from: What is copied, in a handler's freeze() for instance, when nobody
 * changes it any more. @size: Bytes to copy, at most the size of an object. The rest of the object
 * is as kho_slab_alloc()
 *	leaves it.
 *
 * The original stays the caller's. Nothing else that happens to be near it is handed over.
 *
 * Return: The physical address of the copy, for kho_slab_load() or kho_slab_object(), or 0.
 */
u64 kho_slab_save(struct kho_slab *slab, const void *from, size_t size);

/**
 * kho_slab_load() - Move a saved copy out of the cache into memory of kmalloc().
 * @slab: The cache.
 * @phys: What kho_slab_save() returned.
 * @flags: How to allocate; the function does not sleep if these say so.
 *
 * As many bytes are copied as an object has. The object is freed.
 *
 * Return: Memory for kfree(), or an ERR_PTR: -EINVAL if no object is allocated there, also if it
 * was loaded already; -ENOMEM.
 */
void *kho_slab_load(struct kho_slab *slab, u64 phys, gfp_t flags);

/**
 * kho_slab_next() - Walk the allocated objects.
 * @slab: The cache.
 * @position: 0 to begin with; set to the position behind the object that is returned.
 *
 * Objects may be allocated and freed meanwhile, the one returned too. Those that are there all the
 * time are met once, in no particular order.
 *
 * Return: An object, or NULL if there are no more.
 */
void *kho_slab_next(struct kho_slab *slab, u64 *position);

/**
 * kho_slab_object() - Find the object at a physical address.
 * @slab: The cache.
 * @phys: The address; it may come from anywhere, such as from the previous kernel.
 *
 * Return: The object, or NULL if there is none allocated at that address.
 */
void *kho_slab_object(struct kho_slab *slab, u64 phys);

/**
 * kho_slab_phys() - Give the physical address of an object, for kho_slab_object().
 * @slab: The cache.
 * @object: The object.
 *
 * Return: The address, or 0 if @object is no object of this cache.
 */
u64 kho_slab_phys(struct kho_slab *slab, const void *object);

/**
 * kho_slab_handle() - Give the number by which kho_slab_attach_at() finds a cache without a name.
 * @slab: The cache.
 *
 * Return: The handle, which the owner hands over in bytes of its own.
 */
u64 kho_slab_handle(struct kho_slab *slab);

/**
 * kho_slab_count() - Count the allocated objects.
 * @slab: The cache.
 *
 * Return: Their number.
 */
u64 kho_slab_count(struct kho_slab *slab);

#endif
