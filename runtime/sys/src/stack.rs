//! The stack's unused part: what one deep call once touched stays in memory for ever, which a process that idles for
//! months need not keep.

/// Room for what the processor's ABI keeps below the stack pointer, and then some.
const MARGIN_BYTES: usize = 4096;

/// Deeper than any of our calls goes.
const SPAN_BYTES: usize = 512 * 1024;

/// What the main thread's stack may be at most, and so how far its beginning can be from here.
const MAX_STACK_BYTES: usize = 8 * 1024 * 1024;

unsafe extern "C" {
    /// The C library's list of variables: the kernel puts it at the beginning of the main thread's stack.
    static environ: *const *const libc::c_char;
}

/// Gives the pages below the current depth of the main thread's stack back to the kernel; they come back empty when they
/// are needed. Where it is not sure of that depth (another thread, another processor) it does nothing.
pub fn give_back_unused() {
    // SAFETY: only the pointer itself is read, and nobody of ours changes the environment.
    let beginning = unsafe { environ } as usize;
    // Not libc's gettid: std declares that one as weak, and in a static program that link-time optimisation has gone
    // over it is then a null pointer.
    let is_main_thread = rustix::thread::gettid() == rustix::process::getpid();
    // SAFETY: this call takes no pointers.
    let page_bytes = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(0);
    let Some(depth) = stack_pointer() else { return };
    let is_on_main_stack =
        is_main_thread && beginning.checked_sub(depth).is_some_and(|used| (1..MAX_STACK_BYTES).contains(&used));
    if !is_on_main_stack || !page_bytes.is_power_of_two() {
        return;
    }
    // Of a power of two the negative is the mask of its multiples: the end is rounded down to a page.
    let end = depth.saturating_sub(MARGIN_BYTES) & page_bytes.wrapping_neg();
    let Some(start) = end.checked_sub(SPAN_BYTES) else { return };
    // SAFETY: the range lies below the stack pointer of the main thread, and the madvise wrapper needs less than the
    // margin for itself. The kernel keeps its stack gap (a megabyte) between this stack and any other mapping, so there is
    // nothing but unused stack in the range; what of it is not mapped is passed over.
    unsafe { libc::madvise(start as *mut libc::c_void, SPAN_BYTES, libc::MADV_DONTNEED) };
}

/// The register itself: the address of a local is the compiler's to choose, and need not be on the stack at all.
fn stack_pointer() -> Option<usize> {
    #[cfg(any(target_arch = "aarch64", target_arch = "arm", target_arch = "x86_64"))]
    {
        let value: usize;
        // SAFETY: it copies one register into another and touches nothing else.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            std::arch::asm!("mov {}, rsp", out(reg) value, options(nomem, nostack, preserves_flags));
            #[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
            std::arch::asm!("mov {}, sp", out(reg) value, options(nomem, nostack, preserves_flags));
        }
        Some(value)
    }
    #[cfg(not(any(target_arch = "aarch64", target_arch = "arm", target_arch = "x86_64")))]
    None
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_pointer_is_below_the_callers_locals_and_they_are_left_alone() {
        let mut values = [0u8; 64 * 1024];
        for (value, number) in values.iter_mut().zip(0..) {
            *value = (number % 251) as u8;
        }
        let values = std::hint::black_box(&values);
        if let Some(pointer) = super::stack_pointer() {
            assert!(pointer <= values.as_ptr() as usize);
        }
        super::give_back_unused();
        assert!(values.iter().zip(0..).all(|(value, number)| *value == (number % 251) as u8));
    }
}
