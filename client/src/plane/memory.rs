//! Gives memory back to the system after a burst of traffic.
//!
//! Messages are allocated in one thread and freed in another, which leaves glibc's arenas full of holes: after a saturating
//! transfer a daemon kept 12 MB that it did not use. Rings and buffers shrink by themselves; this returns what lies between.

/// Returns free memory of the allocator to the kernel. A few hundred microseconds; call it when a burst is over.
#[cfg(target_env = "gnu")]
pub(super) fn trim() {
    // SAFETY: `malloc_trim` takes no pointer and may be called from any thread at any time (malloc_trim(3)): it releases
    // only what the allocator itself holds as free.
    let _ = unsafe { libc::malloc_trim(0) };
}

/// Other C libraries return free memory by themselves, or have no such call.
#[cfg(not(target_env = "gnu"))]
pub(super) const fn trim() {}
