/*
 * std refers to the unwinder even where it is built to abort: these are the names, and they all say "no frames".
 * They replace a whole libunwind, which no package offers for musl.
 */
int _Unwind_Backtrace(void *f, void *a) { return 5; } /* _URC_END_OF_STACK */
unsigned long _Unwind_GetIP(void *c) { return 0; }
unsigned long _Unwind_GetIPInfo(void *c, int *before) { *before = 0; return 0; }
unsigned long _Unwind_GetCFA(void *c) { return 0; }
void *_Unwind_FindEnclosingFunction(void *c) { return 0; }
/* 32-bit ARM's own: the virtual register set, and the personality that compiled code names. */
int _Unwind_VRS_Get(void *c, int r, int n, int d, void *v) { *(unsigned *)v = 0; return 0; }
int _Unwind_VRS_Set(void *c, int r, int n, int d, void *v) { return 0; }
int __aeabi_unwind_cpp_pr0(void) { return 9; } /* _URC_FAILURE */
int __aeabi_unwind_cpp_pr1(void) { return 9; }
