//! Stacks of model threads, kept from one execution to the next.
//!
//! Loom gives every thread of every execution a new coroutine, and the coroutine maps its stack, protects a page of it, and unmaps it in the
//! end. For programs as short as those of the [classes](super::program::Class) this is more than half of the time, most of it in page
//! faults, and all threads of a process wait for each other there (measured, 2026-11-28, `norec`, 2+1 at bound 1: 28 s on one thread and
//! no less on two; with stacks kept 12 s and 6 s). There is no way to tell loom to keep them, so a binary that explores a lot
//! says [`keep_model_stacks!`](crate::keep_model_stacks!) once, which puts this module in front of the C library's `mmap`, `munmap` and
//! `mprotect`. All requests but those for a coroutine's stack go straight on to the system.
#![expect(unsafe_code, reason = "stands in for mmap(2) and its like")]

use std::cell::RefCell;
use std::ffi::c_void;

/// Stacks of another size than loom's own are not kept.
const MOST_BYTES: usize = 1 << 16;

/// More are not kept by one thread.
const MOST_STACKS: usize = 16;

/// A mapping made for a coroutine's stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stack {
    bottom: *mut c_void,
    bytes: usize,
    guarded: bool,
}

/// What a thread has mapped. Coroutines stay on the thread that made them.
#[derive(Debug, Default)]
struct Stacks {
    used: Vec<Stack>,
    free: Vec<Stack>,
}

impl Drop for Stacks {
    fn drop(&mut self) {
        for stack in self.free.drain(..) {
            // SAFETY: nobody uses it.
            unsafe { libc::syscall(libc::SYS_munmap, stack.bottom, stack.bytes) };
        }
    }
}

thread_local! {
    static STACKS: RefCell<Stacks> = RefCell::default();
}

/// Does `f` with this thread's stacks, unless they are in use further up (growing a list may map memory) or gone.
fn with_stacks<R>(f: impl FnOnce(&mut Stacks) -> Option<R>) -> Option<R> {
    STACKS.try_with(|stacks| f(&mut *stacks.try_borrow_mut().ok()?)).ok().flatten()
}

/// `mmap(2)`.
///
/// # Safety
/// As there.
#[must_use]
pub unsafe fn map(
    address: *mut c_void,
    bytes: usize,
    protection: libc::c_int,
    flags: libc::c_int,
    file: libc::c_int,
    offset: libc::off_t,
) -> *mut c_void {
    let is_stack = address.is_null() && flags & libc::MAP_STACK != 0 && bytes <= MOST_BYTES;
    let kept = with_stacks(|stacks| {
        let at = stacks.free.iter().position(|stack| is_stack && stack.bytes == bytes)?;
        let stack = stacks.free.swap_remove(at);
        stacks.used.push(stack);
        Some(stack.bottom)
    });
    kept.unwrap_or_else(|| {
        // SAFETY: the caller's.
        let bottom = unsafe { libc::syscall(libc::SYS_mmap, address, bytes, protection, flags, file, offset) };
        let bottom = std::ptr::with_exposed_provenance_mut(bottom as usize);
        if is_stack && bottom != libc::MAP_FAILED {
            let _noted = with_stacks(|stacks| {
                stacks.used.push(Stack { bottom, bytes, guarded: false });
                Some(())
            });
        }
        bottom
    })
}

/// `munmap(2)`.
///
/// # Safety
/// As there.
#[must_use]
pub unsafe fn unmap(address: *mut c_void, bytes: usize) -> libc::c_int {
    let kept = with_stacks(|stacks| {
        let at = stacks.used.iter().position(|stack| (stack.bottom, stack.bytes) == (address, bytes))?;
        let stack = stacks.used.swap_remove(at);
        if !stack.guarded || stacks.free.len() == MOST_STACKS {
            return None;
        }
        stacks.free.push(stack);
        Some(())
    });
    // SAFETY: the caller's.
    kept.map_or_else(|| unsafe { libc::syscall(libc::SYS_munmap, address, bytes) as libc::c_int }, |()| 0)
}

/// `mprotect(2)`.
///
/// # Safety
/// As there.
#[must_use]
pub unsafe fn protect(address: *mut c_void, bytes: usize, protection: libc::c_int) -> libc::c_int {
    let is_guarded = with_stacks(|stacks| {
        let stack = stacks.used.iter_mut().find(|stack| stack.bottom == address && protection == libc::PROT_NONE)?;
        std::mem::replace(&mut stack.guarded, true).then_some(())
    });
    // SAFETY: the caller's.
    is_guarded
        .map_or_else(|| unsafe { libc::syscall(libc::SYS_mprotect, address, bytes, protection) as libc::c_int }, |()| 0)
}

/// Makes this binary keep the stacks of model threads: exploring takes half of the time, and scales with cores.
///
/// It defines `mmap`, `munmap` and `mprotect` for the whole binary (a library should leave that to who uses it), and is nothing but on Linux.
/// See [`stacks`](crate::check::stacks).
#[macro_export]
macro_rules! keep_model_stacks {
    () => {
        #[cfg(target_os = "linux")]
        #[expect(unsafe_code, reason = "stands in for mmap(2) and its like")]
        mod model_stacks {
            use std::ffi::{c_int, c_void};

            use $crate::check::stacks;

            #[unsafe(no_mangle)]
            unsafe extern "C" fn mmap(
                address: *mut c_void,
                bytes: usize,
                protection: c_int,
                flags: c_int,
                file: c_int,
                offset: i64,
            ) -> *mut c_void {
                // SAFETY: the caller's.
                unsafe { stacks::map(address, bytes, protection, flags, file, offset) }
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn munmap(address: *mut c_void, bytes: usize) -> c_int {
                // SAFETY: the caller's.
                unsafe { stacks::unmap(address, bytes) }
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn mprotect(address: *mut c_void, bytes: usize, protection: c_int) -> c_int {
                // SAFETY: the caller's.
                unsafe { stacks::protect(address, bytes, protection) }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_is_kept_with_its_guard_and_other_memory_is_not() {
        let read_write = libc::PROT_READ | libc::PROT_WRITE;
        let new = |bytes, flag| {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flag;
            // SAFETY: a mapping of its own.
            let address = unsafe { map(std::ptr::null_mut(), bytes, read_write, flags, -1, 0) };
            assert_ne!(address, libc::MAP_FAILED);
            address
        };
        let mapped = || STACKS.with_borrow(|stacks| (stacks.used.len(), stacks.free.len()));
        let stack = new(36_864, libc::MAP_STACK);
        // SAFETY: the mappings of this test, each used until it is given back.
        unsafe {
            assert_eq!(protect(stack, 4096, libc::PROT_NONE), 0);
            assert_eq!((unmap(stack, 36_864), mapped()), (0, (0, 1)));
            assert_eq!((new(36_864, libc::MAP_STACK), mapped()), (stack, (1, 0)), "the same one");
            let unguarded = new(36_864, libc::MAP_STACK);
            assert_eq!((unmap(unguarded, 36_864), mapped()), (0, (1, 0)), "one without a guard is given back");
            let other = new(36_864, 0);
            assert_eq!((unmap(other, 36_864), mapped()), (0, (1, 0)), "no stack");
            assert_eq!((unmap(stack, 36_864), mapped()), (0, (0, 1)));
        }
    }
}
